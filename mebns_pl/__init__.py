"""mebns_pl: link prediction with meta-bootstrapped negative sampling (MeBNS), on PyTorch Lightning.

Data has one way through the house:

    split -> proposal -> teacher filter -> selector -> weight net -> loss -> metrics -> logs

A :class:`LinkDataModule` reads and splits a graph and draws candidates (*proposal*). A system, :class:`Plain` or
:class:`MeBNS`, holds the predictors: the *teacher* keeps the hard candidates (*filter*), the *selector* picks among
them by the *student*'s scores, the *weight net* weighs the picks. Every stage is a class of its own, named in YAML by
``class_path`` and usable alone from Python.
"""

from importlib.metadata import version

from mebns_pl.callbacks import (
    HyperParameters,
    LastCheckpoint,
    MigrationFigures,
    MigrationMonitor,
    PredictionWriter,
    Preemption,
    ResultTable,
)
from mebns_pl.callbacks.landscape import Landscape, LandscapeOptions, compare_checkpoints, measure_landscape
from mebns_pl.callbacks.links import NewNodes, predict_links, score_links
from mebns_pl.data.batching import FullGraph, NeighborSampling
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.data.eval_negatives import HeartNegatives, RandomNegatives
from mebns_pl.data.graph_data import SplitFractions
from mebns_pl.data.pools import AllPairsPool, NearestPool, PageRankPool, TwoHopPool, UnionPool
from mebns_pl.data.protocols import Protocol
from mebns_pl.data.restriction import PredictionPairs
from mebns_pl.data.umd_collector import UMDCollector
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.graph.pair_measures import Jaccard, Katz, PreferentialAttachment, ShortestPath
from mebns_pl.graph.proximity import (
    AdamicAdar,
    CommonNeighbors,
    FeatureCosine,
    MinRank,
    PersonalizedPageRank,
    ResourceAllocation,
)
from mebns_pl.graph.sparse import Features
from mebns_pl.graph.subgraph import Subgraphs, enclosing_subgraphs
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import DirectionalEngine, HigherEngine
from mebns_pl.mebns.cheap_engines import Every, LastBlock
from mebns_pl.mebns.teacher_filter import TeacherFilter
from mebns_pl.models import GAT, GCN, NCN, SAGE, SEAL, DotDecoder, EncoderDecoder, LinkPredictor, MLPDecoder, WeightNet
from mebns_pl.models.proximity import ProximityPredictor
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
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.adaptive_hardness import AdaptiveHardnessSelector
from mebns_pl.negatives.selectors.bayesian import BayesianSelector
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.negatives.selectors.hardest import HardestSelector
from mebns_pl.negatives.selectors.softmax import SoftmaxSelector
from mebns_pl.negatives.selectors.top import TopSelector
from mebns_pl.negatives.std_generator import StdGenerator
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting
from mebns_pl.negatives.weightings.equal import EqualWeighting
from mebns_pl.negatives.weightings.self_adversarial import SelfAdversarialWeighting
from mebns_pl.saved_run import load_run
from mebns_pl.systems import Heuristic, MeBNS, Plain, RankWatch, Schedule, Updates
from mebns_pl.systems.checkpoint_io import AtomicCheckpointIO, CheckpointError
from mebns_pl.systems.scoring import CascadeScoring, StudentScoring
from mebns_pl.types import EdgeSplit, GraphSpec

__version__ = version("mebns_pl")

__all__ = [
    "GAT",
    "GCN",
    "NCN",
    "SAGE",
    "SEAL",
    "AbstractAdaptiveProposal",
    "AbstractNegativeWeighting",
    "AbstractProposal",
    "AbstractSelector",
    "AdamicAdar",
    "AdaptiveHardnessSelector",
    "AllPairsPool",
    "AtomicCheckpointIO",
    "BayesianSelector",
    "CacheProposal",
    "CandidateScores",
    "CascadeScoring",
    "ChainProposal",
    "CheckpointError",
    "CommonNeighbors",
    "DegreeProposal",
    "DirectionalEngine",
    "DotDecoder",
    "EdgeSplit",
    "EncoderDecoder",
    "EqualWeighting",
    "Every",
    "FeatureCosine",
    "Features",
    "FirstSelector",
    "FullGraph",
    "GeneratorProposal",
    "Graph",
    "GraphSpec",
    "HardestSelector",
    "HeartNegatives",
    "Heuristic",
    "HigherEngine",
    "HyperParameters",
    "Jaccard",
    "KHopProposal",
    "Katz",
    "Key",
    "KnownEdges",
    "Landscape",
    "LandscapeOptions",
    "LastBlock",
    "LastCheckpoint",
    "LinkDataModule",
    "LinkPredictor",
    "MLPDecoder",
    "MeBNS",
    "MigrationFigures",
    "MigrationMonitor",
    "MinRank",
    "MixtureProposal",
    "NearestPool",
    "NeighborSampling",
    "NewNodes",
    "PageRankPool",
    "PersonalizedPageRank",
    "Picks",
    "Plain",
    "PredictionPairs",
    "PredictionWriter",
    "Preemption",
    "PreferentialAttachment",
    "Protocol",
    "ProximityPredictor",
    "ProximityProposal",
    "RandomNegatives",
    "RankWatch",
    "ResourceAllocation",
    "ResultTable",
    "Schedule",
    "SelfAdversarialWeighting",
    "ShortestPath",
    "SoftmaxSelector",
    "SplitFractions",
    "StdGenerator",
    "StudentScoring",
    "Subgraphs",
    "TeacherFilter",
    "TopSelector",
    "TwoHopPool",
    "UMDCollector",
    "UniformPairProposal",
    "UniformProposal",
    "UnionPool",
    "Updates",
    "WalkProposal",
    "WeightNet",
    "compare_checkpoints",
    "enclosing_subgraphs",
    "load_run",
    "measure_landscape",
    "predict_links",
    "score_links",
]  # fmt: skip
