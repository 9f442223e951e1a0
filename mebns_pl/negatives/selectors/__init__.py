"""Rules that pick negatives among candidates, by the student's scores or without them."""

from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.adaptive_hardness import AdaptiveHardnessSelector
from mebns_pl.negatives.selectors.bayesian import BayesianSelector
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.negatives.selectors.hardest import HardestSelector
from mebns_pl.negatives.selectors.softmax import SoftmaxSelector
from mebns_pl.negatives.selectors.top import TopSelector

__all__ = [
    "AbstractSelector",
    "AdaptiveHardnessSelector",
    "BayesianSelector",
    "CandidateScores",
    "FirstSelector",
    "HardestSelector",
    "Picks",
    "SoftmaxSelector",
    "TopSelector",
]
