"""Which predictor fits a graph: ``model.predictor: auto``, by a table that configs/study/defaults.yaml has made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mebns_pl.types import GraphSpec


@dataclass(frozen=True)
class GraphFacts:
    """What the choice depends on.

    Args:
        spec: nodes and features.
        num_edges: undirected edges, those that are held out included.

    Example:
        >>> GraphFacts(GraphSpec(num_nodes=4), num_edges=6).mean_degree
        3.0
    """

    spec: GraphSpec
    num_edges: int

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
        options: predictor, learning rate and clipping, by names with dots.
        epochs: of the training, at the end of which the learning rate is a hundredth of its start.
    """

    name: str
    graphs: str
    holds: Callable[[GraphFacts], bool]
    options: Mapping[str, Any]
    epochs: int


def _linear(width: int) -> dict[str, Any]:
    return {
        "model.predictor": "mebns_pl.EncoderDecoder",
        "model.predictor.encoder": "mebns_pl.LinearGCN",
        "model.predictor.encoder.hidden_channels": width,
        "model.predictor.encoder.embed_nodes": True,
        "model.predictor.encoder.use_features": False,
        "model.predictor.decoder": "mebns_pl.ResidualMLPDecoder",
        "model.optimizer": "torch.optim.Adam",
        "model.optimizer.lr": 0.01,
        "model.updates.gradient_clip_norm": 1.0,
    }


CHOICES = (Choice("embeddings", "all others", lambda facts: True, _linear(256), 60),)
"""The first whose condition holds is taken."""


def chosen(facts: GraphFacts) -> Choice:
    """The model for a graph.

    Example:
        >>> chosen(GraphFacts(GraphSpec(num_nodes=300), num_edges=3000)).name
        'embeddings'
    """
    return next(choice for choice in CHOICES if choice.holds(facts))
