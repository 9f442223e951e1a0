"""``python -m mebns_pl``."""

from mebns_pl.cli.start import run

if __name__ == "__main__":
    run()
