"""Distributions over candidate nodes: static ones, by the training graph alone, and adaptive ones, by the student."""

from mebns_pl.negatives.proposals.abstract import AbstractProposal
from mebns_pl.negatives.proposals.adaptive import AbstractAdaptiveProposal
from mebns_pl.negatives.proposals.cache import CacheProposal
from mebns_pl.negatives.proposals.chain import ChainProposal
from mebns_pl.negatives.proposals.degree import DegreeProposal
from mebns_pl.negatives.proposals.generator import GeneratorProposal
from mebns_pl.negatives.proposals.khop import KHopProposal, WalkProposal
from mebns_pl.negatives.proposals.mixture import MixtureProposal
from mebns_pl.negatives.proposals.pairs import UniformPairProposal
from mebns_pl.negatives.proposals.proximity import ProximityProposal
from mebns_pl.negatives.proposals.uniform import UniformProposal

__all__ = [
    "AbstractAdaptiveProposal",
    "AbstractProposal",
    "CacheProposal",
    "ChainProposal",
    "DegreeProposal",
    "GeneratorProposal",
    "KHopProposal",
    "MixtureProposal",
    "ProximityProposal",
    "UniformPairProposal",
    "UniformProposal",
    "WalkProposal",
]
