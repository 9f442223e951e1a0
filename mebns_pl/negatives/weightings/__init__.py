"""How much each picked negative counts in the loss, before a weight net."""

from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting
from mebns_pl.negatives.weightings.equal import EqualWeighting
from mebns_pl.negatives.weightings.self_adversarial import SelfAdversarialWeighting

__all__ = ["AbstractNegativeWeighting", "EqualWeighting", "SelfAdversarialWeighting"]
