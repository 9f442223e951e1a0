"""Distributions over candidate nodes, by the training graph alone."""

from mebns_pl.negatives.proposals.abstract import AbstractProposal
from mebns_pl.negatives.proposals.degree import DegreeProposal
from mebns_pl.negatives.proposals.khop import KHopProposal, WalkProposal
from mebns_pl.negatives.proposals.mixture import MixtureProposal
from mebns_pl.negatives.proposals.pairs import UniformPairProposal
from mebns_pl.negatives.proposals.proximity import ProximityProposal
from mebns_pl.negatives.proposals.uniform import UniformProposal

__all__ = [
    "AbstractProposal",
    "DegreeProposal",
    "KHopProposal",
    "MixtureProposal",
    "ProximityProposal",
    "UniformPairProposal",
    "UniformProposal",
    "WalkProposal",
]
