"""Rules that pick negatives among candidates, by the student's scores or without them."""

from mebns_pl.negatives.selectors.abstract import AbstractSelector, Picks
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.negatives.selectors.hardest import HardestSelector

__all__ = ["AbstractSelector", "FirstSelector", "HardestSelector", "Picks"]
