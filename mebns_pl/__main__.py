"""``python -m mebns_pl``."""

from mebns_pl.cli.main import run

if __name__ == "__main__":
    run()
