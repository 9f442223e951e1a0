"""Predictors that see exact numbers of the structure round a pair: beside an encoder's embeddings, or these alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from mebns_pl.checks import expect
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.near_nodes import page_rank_lists, page_rank_of_ends
from mebns_pl.graph.pair_features import LIKENESS, feature_table, pair_features
from mebns_pl.graph.pair_structure import STRUCTURE, log_structure, pair_structure
from mebns_pl.keys import Key
from mebns_pl.models.encoders.gcn import GCN
from mebns_pl.models.layers import Perceptron
from mebns_pl.models.predictor import AbstractEncodingPredictor, LinkPredictor, PairInputs
from mebns_pl.models.pyg import EncoderFactory, make_encoder
from mebns_pl.types import GraphSpec


@dataclass(frozen=True, kw_only=True)
class StructureInputs(PairInputs):
    """Pairs on a graph with numbers of the structure round them.

    Args:
        structure: ``(M, F)`` float32.
    """

    structure: Tensor

    def select(self, index: Tensor | slice) -> Self:
        """The pairs at ``index``."""
        return replace(super().select(index), structure=self.structure[index])


PAGE_RANK = PersonalizedPageRank(eps=1e-7)
"""Its restart probability and precision: what is left where an edge is the only way must be next to nothing."""
_TOP, _LEAST_RANK = 512, 1e-6


def log_page_rank(graph: Graph, pairs: Tensor) -> Tensor:
    """``(M, 1)`` float32, 0 or more: half the logarithm of the ends' PageRank for one another over 1e-6.

    Without the pair's own edge; half, to be as wide as the other numbers.
    """
    table, places = page_rank_lists(graph, PAGE_RANK, _TOP, pairs)
    return (page_rank_of_ends(table, pairs, places) / _LEAST_RANK).log1p().div(2).float()[:, None]


def structure_inputs(inputs: PairInputs, num_hops: int, features: bool, page_rank: bool = False) -> StructureInputs:
    """Counts: pairs with the numbers of the whole graph, without each pair's own edge."""
    graph = inputs.graph
    found = log_structure(pair_structure(graph.with_targets(), inputs.pairs, num_hops))
    if features:
        table = graph.once_each("feature table", feature_table)
        found = torch.cat([found, 10 * pair_features(table, inputs.pairs)], dim=1)  # 10: as wide as the logarithms
    if page_rank:
        found = torch.cat([found, log_page_rank(graph.with_targets(), inputs.pairs)], dim=1)
    return StructureInputs(**vars(inputs), structure=found)


def num_numbers(spec: GraphSpec, num_hops: int, features: bool, page_rank: bool = False) -> int:
    """How many there are of a pair.

    Raises:
        ValueError: ``num_hops`` is neither 1 nor 2, or ``features`` of a graph that has none.
    """
    expect(num_hops in (1, 2), "1 or 2", num_hops=num_hops)
    expect(not features or spec.num_features > 0, "False for a graph without features", features=features)
    return sum(len(STRUCTURE[hop]) for hop in range(1, num_hops + 1)) + len(LIKENESS) * features + page_rank


class StructureMLP(LinkPredictor[StructureInputs]):
    r"""Common neighbours, paths and degrees of a pair, weighed by learning: the heuristics in one, without embeddings.

    With the logarithms :math:`s_{uv}` of the numbers that :func:`~mebns_pl.graph.pair_structure.pair_structure` finds,
    the logit of :math:`(u, v)` is :math:`f(h(s_{uv})) + w^\top s_{uv}`, f and h perceptrons of two layers: what
    :class:`StructurePredictor` makes of them where it has no embeddings, and a linear part beside it (as "wide and
    deep" models, 1606.07792), which keeps apart the pairs with the highest numbers, as heuristics do: the perceptrons
    normalise them. Numbers of a graph without the pair's own edge look alike in training and test, and so few
    parameters do not overfit. Nodes that training has not seen are scored as others are.

    Args:
        spec: the graph's size and features, which it does not need but to know whether there are any.
        hidden_channels: H, width of the perceptrons.
        num_hops: 1 or 2, how far the numbers look; 1 is cheaper on dense graphs.
        dropout: probability in [0, 1), of their hidden layers.
        features: whether the cosines of :func:`~mebns_pl.graph.pair_features.pair_features` are among the numbers.
        page_rank: whether PageRank of either end for the other is (:func:`log_page_rank`): for sparse graphs, whose
            missing edges lie far apart. Once a push for each node, and up to 6 KiB for each.

    Raises:
        ValueError: ``num_hops`` or ``dropout`` out of its range, or ``features`` of a graph that has none.

    Cost of M pairs: for each the degrees of one end's neighbours (with one hop, its degree) to count, and 2 H^2
    multiply-adds; memory M H. With features, besides, those of an end and of its neighbours that are not 0.

    Example:
        >>> import torch
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> predictor = StructureMLP(graph.spec, hidden_channels=8)
        >>> predictor(predictor.prepare(graph, torch.tensor([[0], [2]]))).shape
        torch.Size([1])
    """

    def __init__(
        self,
        spec: GraphSpec,
        hidden_channels: int = 64,
        num_hops: int = 2,
        dropout: float = 0.1,
        features: bool = False,
        page_rank: bool = False,
    ) -> None:
        super().__init__()
        numbers = num_numbers(spec, num_hops, features, page_rank)
        self.num_hops, self.features, self.page_rank = num_hops, features, page_rank
        self.structure = Perceptron(numbers, hidden_channels, hidden_channels, dropout)
        self.head = Perceptron(hidden_channels, hidden_channels, 1, dropout)
        self.linear = nn.Linear(numbers, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def prepare(
        self, graph: Graph, pairs: Tensor, rows: Tensor | None = None, key: Key | None = None
    ) -> StructureInputs:
        """Counts."""
        inputs = self.pair_inputs(graph, pairs, rows, key)
        return structure_inputs(inputs, self.num_hops, self.features, self.page_rank)

    def forward(self, inputs: StructureInputs) -> Tensor:
        """Logits ``(M,)``."""
        key, rows = inputs.key, inputs.rows
        numbers = inputs.structure.to(self.head.last.weight.dtype)
        hidden = self.structure(numbers, rows, key and key.child("structure"))
        logits: Tensor = self.head(hidden, rows, key and key.child("head")) + self.linear(numbers)
        return logits.squeeze(1)

    @property
    def inductive(self) -> bool:
        """Numbers are there for any node."""
        return True


class StructurePredictor(AbstractEncodingPredictor[StructureInputs]):
    r"""Embeddings of any encoder, beside common neighbours, paths and degrees (as BUDDY, 2209.15486, exactly counted).

    With embeddings :math:`z` and the logarithms :math:`s_{uv}` of the numbers that
    :func:`~mebns_pl.graph.pair_structure.pair_structure` finds, the logit of :math:`(u, v)` is

    .. math:: f\bigl(g(z_u \odot z_v) + h(s_{uv})\bigr)

    where f, g and h are perceptrons of two layers. Messages pass on the graph without a batch's positives. The numbers
    are those of the whole graph without the pair's own edge, so that they do not depend on the batch, and training
    edges look as held-out ones do.

    Args:
        spec: the graph's size.
        encoder: makes the encoder from the spec.
        hidden_channels: H, width of the perceptrons.
        num_hops: 1 or 2, how far the numbers look; 1 is cheaper on dense graphs.
        dropout: probability in [0, 1), of their hidden layers.
        features: whether the cosines of :func:`~mebns_pl.graph.pair_features.pair_features` are among the numbers.

    Raises:
        ValueError: ``num_hops`` or ``dropout`` out of its range, or ``features`` of a graph that has none.

    Cost of M pairs: one encoding of the graph (C channels); for each pair the degrees of one end's neighbours (with one
    hop, its degree) to count, and C H + 3 H^2 multiply-adds; with features, besides, those of an end and of its
    neighbours that are not 0.

    Example:
        >>> import torch
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> predictor = StructurePredictor(graph.spec, hidden_channels=8)
        >>> predictor(predictor.prepare(graph, torch.tensor([[0], [2]]))).shape
        torch.Size([1])
    """

    def __init__(
        self,
        spec: GraphSpec,
        encoder: EncoderFactory = GCN,
        hidden_channels: int = 256,
        num_hops: int = 2,
        dropout: float = 0.1,
        features: bool = False,
    ) -> None:
        super().__init__(make_encoder(encoder, spec))
        self.num_hops, self.features = num_hops, features
        self.ends = Perceptron(self.encoder.out_channels, hidden_channels, hidden_channels, dropout)
        self.structure = Perceptron(num_numbers(spec, num_hops, features), hidden_channels, hidden_channels, dropout)
        self.head = Perceptron(hidden_channels, hidden_channels, 1, dropout)

    def prepare(
        self, graph: Graph, pairs: Tensor, rows: Tensor | None = None, key: Key | None = None
    ) -> StructureInputs:
        """Counts."""
        return structure_inputs(self.pair_inputs(graph, pairs, rows, key), self.num_hops, self.features)

    def scorer(self, graph: Graph, key: Key | None = None) -> Callable[[StructureInputs], Tensor]:
        """Encodes ``graph`` once; the function returned scores."""
        z = self.encoder(graph, key and key.child("encoder"))

        def score(inputs: StructureInputs) -> Tensor:
            key, rows = inputs.key, inputs.rows
            product = z.index_select(0, inputs.pairs[0]) * z.index_select(0, inputs.pairs[1])
            ends = self.ends(product, rows, key and key.child("ends"))
            structure = self.structure(inputs.structure.to(z.dtype), rows, key and key.child("structure"))
            return self.head(ends + structure, rows, key and key.child("head")).squeeze(1)  # type: ignore[no-any-return]

        return score
