"""``python -m mebns_pl``."""

from mebns_pl.cli import main

if __name__ == "__main__":
    main()
