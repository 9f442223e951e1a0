"""Which predictor fits a graph: ``model.predictor: auto``, by a table that studies have made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mebns_pl.types import MANY_FEATURES, GraphSpec


@dataclass(frozen=True)
class GraphFacts:
    """What the choice depends on.

    Args:
        spec: nodes and features.
        num_edges: undirected edges, those that are held out included.
        max_degree: the most neighbours of a node.
        sampled: whether steps work on sampled neighbourhoods, which goes with layers of an encoder alone.

    Example:
        >>> GraphFacts(GraphSpec(num_nodes=4), num_edges=6, max_degree=3).mean_degree
        3.0
    """

    spec: GraphSpec
    num_edges: int
    max_degree: int
    sampled: bool = False

    @property
    def num_nodes(self) -> int:
        """Nodes."""
        return self.spec.num_nodes

    @property
    def num_features(self) -> int:
        """Features of a node; 0 where there are none."""
        return self.spec.num_features

    @property
    def mean_degree(self) -> float:
        """Neighbours of a node in the mean."""
        return 2 * self.num_edges / self.num_nodes


@dataclass(frozen=True)
class Choice:
    """A model for graphs of a kind.

    Args:
        name: what people call it.
        graphs: which graphs it is for, for people to read.
        holds: whether a graph is one of them.
        options: predictor, proposal of negatives, learning rate, clipping and batch size, by names with dots.
        epochs: by the fewest edges of a graph that they are for: of the training, at whose end the learning rate is a
            hundredth of its start.
    """

    name: str
    graphs: str
    holds: Callable[[GraphFacts], bool]
    options: Mapping[str, Any]
    epochs: Mapping[int, int]

    def epochs_for(self, facts: GraphFacts) -> int:
        """How long a graph's training is."""
        return self.epochs[max(fewest for fewest in self.epochs if fewest <= facts.num_edges)]


def _large(facts: GraphFacts) -> bool:
    return facts.num_edges >= _MANY_EDGES or facts.mean_degree >= _MANY_NEIGHBORS


_ADAM = {"model.optimizer": "torch.optim.Adam", "model.optimizer.lr": 0.01, "model.updates.gradient_clip_norm": 1.0}
_STRUCTURE = {
    "model.predictor": "mebns_pl.StructureMLP",
    # Each edge against several of its anchor's: what is learned is their order
    "model.sampler.proposal": "mebns_pl.UniformProposal",
    "model.loss": "mebns_pl.SoftmaxCrossEntropy",
    "model.sampler.num_candidates": 8,
    "model.sampler.selector": "mebns_pl.FirstSelector",
    "model.sampler.selector.num_negatives": 8,
    **_ADAM,
    "data.batch_size": 256,
}
_STRUCTURE_EPOCHS = {0: 60, 5_000: 30, 10_000: 15}
_NEAR = {
    "class_path": "mebns_pl.ProximityProposal",
    "init_args": {
        "top": 250,
        "measure": {
            "class_path": "mebns_pl.MinRank",
            "init_args": {
                "measures": [
                    {"class_path": f"mebns_pl.{measure}"}
                    for measure in ("PersonalizedPageRank", "ResourceAllocation", "FeatureCosine")
                ]
            },
        },
    },
}
_SOME_NEAR = {
    "class_path": "mebns_pl.MixtureProposal",
    "init_args": {"weights": [0.7, 0.3], "proposals": [{"class_path": "mebns_pl.UniformProposal"}, _NEAR]},
}
_MANY_EDGES, _MANY_NEIGHBORS = 100_000, 100
_FEW_NODES = 30_000  # whose features can be compared with one another: near candidates are by them, too
_SPARSE, _FEW_LISTS = 3, 50_000  # 6 KiB of PageRank a node
CHOICES = (
    Choice(
        "structure and features",
        "64 features or more (words, embeddings), up to 30,000 nodes, below 100,000 edges and 100 neighbours a node",
        lambda facts: (
            facts.num_features >= MANY_FEATURES
            and facts.num_nodes <= _FEW_NODES
            and not (_large(facts) or facts.sampled)
        ),
        {**_STRUCTURE, "model.predictor.features": True, "model.sampler.proposal": _SOME_NEAR},
        _STRUCTURE_EPOCHS,
    ),
    Choice(
        "GCN + MLP",
        "64 features or more",
        lambda facts: facts.num_features >= MANY_FEATURES or facts.sampled,
        {
            "model.predictor": "mebns_pl.EncoderDecoder",
            "model.predictor.encoder": "mebns_pl.GCN",
            "model.predictor.encoder.hidden_channels": 256,
            "model.predictor.encoder.num_layers": 1,
            "model.predictor.decoder": "mebns_pl.MLPDecoder",
            "model.predictor.decoder.hidden_channels": 256,
            "model.predictor.decoder.num_layers": 3,
            **_ADAM,
            "data.batch_size": 2048,
        },
        {0: 60, 100_000: 30},
    ),
    Choice(
        "linear embeddings",
        "100,000 edges or more, or 100 neighbours a node",
        _large,
        {
            "model.predictor": "mebns_pl.EncoderDecoder",
            "model.predictor.encoder": "mebns_pl.LinearGCN",
            "model.predictor.encoder.hidden_channels": 256,
            "model.predictor.encoder.embed_nodes": True,
            "model.predictor.encoder.use_features": False,
            "model.predictor.decoder": "mebns_pl.ResidualMLPDecoder",
            **_ADAM,
            "data.batch_size": 8192,
        },
        {0: 60, 100_000: 30},
    ),
    Choice(
        "structure and PageRank",
        "below 3 neighbours a node, none with 15 times the mean, up to 50,000 nodes",
        lambda facts: (
            facts.mean_degree < _SPARSE and facts.max_degree < 15 * facts.mean_degree and facts.num_nodes <= _FEW_LISTS
        ),
        # Two steps are next to nothing there, and tell uniform non-edges too well from all that is near
        {**_STRUCTURE, "model.predictor.page_rank": True, "model.predictor.num_hops": 1},
        _STRUCTURE_EPOCHS,
    ),
    Choice("structure", "all others", lambda facts: True, _STRUCTURE, _STRUCTURE_EPOCHS),
)
"""The first whose condition holds is taken."""


def chosen(facts: GraphFacts) -> Choice:
    """The model for a graph.

    Example:
        >>> choice = chosen(GraphFacts(GraphSpec(num_nodes=300), num_edges=3000, max_degree=90))
        >>> choice.name, choice.epochs_for(GraphFacts(GraphSpec(num_nodes=300), num_edges=6000, max_degree=90))
        ('structure', 30)
    """
    return next(choice for choice in CHOICES if choice.holds(facts))
