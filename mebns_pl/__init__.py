"""mebns_pl: link prediction with meta-bootstrapped negative sampling (MeBNS), on PyTorch Lightning.

Data has one way through the house:

    split -> proposal -> teacher filter -> selector -> weight net -> loss -> metrics -> logs

A :class:`LinkDataModule` reads and splits a graph and draws candidates (*proposal*). A system, :class:`Plain` or
:class:`MeBNS`, holds the predictors: the *teacher* keeps the hard candidates (*filter*), the *selector* picks among
them by the *student*'s scores, the *weight net* weighs the picks. Every stage is a class of its own, named in YAML by
``class_path`` and usable alone from Python.
"""

from importlib.metadata import version

from mebns_pl.analysis.landscape import Landscape, LandscapeOptions, measure_landscape
from mebns_pl.callbacks.card import EvaluationCard
from mebns_pl.callbacks.hparams import HyperParameters
from mebns_pl.callbacks.last_checkpoint import LastCheckpoint
from mebns_pl.callbacks.metrics_file import MetricsFile
from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.callbacks.migration_figures import MigrationFigures
from mebns_pl.callbacks.preemption import Preemption
from mebns_pl.callbacks.results import ResultTable
from mebns_pl.cli.landscape import compare_checkpoints
from mebns_pl.cli.own_graph import find_links
from mebns_pl.cli.saved_run import load_run
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.datasets.readers.options import GraphColumns
from mebns_pl.datasets.split import SplitFractions
from mebns_pl.distributed.rank_watch import RankWatch
from mebns_pl.evaluation.negatives import HeartNegatives, RandomNegatives
from mebns_pl.evaluation.protocols import Protocol
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.graph.measures.cosine import FeatureCosine
from mebns_pl.graph.measures.katz import Katz
from mebns_pl.graph.measures.local_path import LocalPath
from mebns_pl.graph.measures.min_rank import MinRank
from mebns_pl.graph.measures.neighbors import AdamicAdar, CommonNeighbors, Jaccard, ResourceAllocation
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.measures.paths_of_length_three import PathsOfLengthThree
from mebns_pl.graph.measures.preferential_attachment import PreferentialAttachment
from mebns_pl.graph.measures.shortest_path import ShortestPath
from mebns_pl.graph.measures.sim_rank import SimRank
from mebns_pl.graph.sparse import Features
from mebns_pl.graph.subgraph import Subgraphs, enclosing_subgraphs
from mebns_pl.keys import Key
from mebns_pl.mebns.bilevel import DirectionalEngine, HigherEngine
from mebns_pl.mebns.cheap_engines import AlignmentEngine, Every, LastBlock
from mebns_pl.mebns.filters.abstract import AbstractFilter
from mebns_pl.mebns.filters.missing_edges import MissingEdgeFilter
from mebns_pl.mebns.filters.random_veto import RandomVeto
from mebns_pl.mebns.filters.teacher import StudentFilter, TeacherFilter
from mebns_pl.mebns.losses.abstract import AbstractLoss
from mebns_pl.mebns.losses.cross_entropy import BinaryCrossEntropy
from mebns_pl.mebns.losses.pairwise import BayesianPersonalizedRanking, MarginLoss
from mebns_pl.mebns.losses.softmax import SoftmaxCrossEntropy
from mebns_pl.mebns.starting_weights import StartingWeights
from mebns_pl.mebns.std_generator import StdGenerator
from mebns_pl.mebns.teachings.abstract import AbstractTeaching
from mebns_pl.mebns.teachings.learning import OwnLearning
from mebns_pl.mebns.teachings.mean_teacher import MeanTeacher
from mebns_pl.mebns.teachings.rounds import Rounds
from mebns_pl.mebns.umd_collector import UMDCollector
from mebns_pl.mebns.weight_net import WeightNet
from mebns_pl.models.batching import FullGraph, NeighborSampling
from mebns_pl.models.decoders.abstract import AbstractDecoder
from mebns_pl.models.decoders.dot import DotDecoder
from mebns_pl.models.decoders.mlp import MLPDecoder
from mebns_pl.models.decoders.residual_mlp import ResidualMLPDecoder
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.encoders.abstract import AbstractEncoder, AbstractLayeredEncoder
from mebns_pl.models.encoders.gat import GAT
from mebns_pl.models.encoders.gcn import GCN
from mebns_pl.models.encoders.linear import LinearGCN
from mebns_pl.models.encoders.sage import SAGE
from mebns_pl.models.measure_predictor import MeasurePredictor
from mebns_pl.models.ncn import NCN
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.models.seal import SEAL
from mebns_pl.models.structure import StructurePredictor
from mebns_pl.negatives.proposals.abstract import AbstractAdaptiveProposal, AbstractProposal, AbstractStaticProposal
from mebns_pl.negatives.proposals.by_measure import ProximityProposal
from mebns_pl.negatives.proposals.cache import CacheProposal
from mebns_pl.negatives.proposals.chain import ChainProposal
from mebns_pl.negatives.proposals.degree import DegreeProposal
from mebns_pl.negatives.proposals.generator import GeneratorProposal
from mebns_pl.negatives.proposals.khop import KHopProposal, WalkProposal
from mebns_pl.negatives.proposals.mixture import MixtureProposal
from mebns_pl.negatives.proposals.pairs import UniformPairProposal
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.negatives.selectors.abstract import AbstractSelector, CandidateScores, Picks
from mebns_pl.negatives.selectors.adaptive_hardness import AdaptiveHardnessSelector
from mebns_pl.negatives.selectors.bayesian import BayesianSelector
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.negatives.selectors.hardest import HardestSelector
from mebns_pl.negatives.selectors.softmax import SoftmaxSelector
from mebns_pl.negatives.selectors.top import TopSelector
from mebns_pl.negatives.weightings.abstract import AbstractNegativeWeighting
from mebns_pl.negatives.weightings.equal import EqualWeighting
from mebns_pl.negatives.weightings.self_adversarial import SelfAdversarialWeighting
from mebns_pl.pools.all_pairs import AllPairsPool
from mebns_pl.pools.listed import PageRankPool, TwoHopPool
from mebns_pl.pools.nearest import NearestPool
from mebns_pl.pools.restriction import PredictionPairs
from mebns_pl.pools.union import UnionPool
from mebns_pl.prediction.links import NewNodes, predict_links, score_links
from mebns_pl.prediction.writer import PredictionWriter
from mebns_pl.systems.auto_encoder import AutoEncoder
from mebns_pl.systems.checkpoint_io import AtomicCheckpointIO, CheckpointError
from mebns_pl.systems.heuristic import Heuristic
from mebns_pl.systems.mebns import MeBNS, Schedule
from mebns_pl.systems.plain import Plain
from mebns_pl.systems.scoring import CascadeScoring, StudentScoring
from mebns_pl.systems.updates import Updates
from mebns_pl.types import EdgeSplit, GraphSpec

__version__ = version("mebns_pl")

__all__ = sorted(name for name, value in globals().items() if getattr(value, "__module__", "").startswith("mebns_pl."))
