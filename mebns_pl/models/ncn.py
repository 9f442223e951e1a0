"""NCN: neural common neighbours, an encoder whose decoder also sees the embeddings of a pair's common neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.row_sets import RowSets, common_neighbors
from mebns_pl.keys import Key
from mebns_pl.models.encoders.gcn import GCN
from mebns_pl.models.layers import Perceptron
from mebns_pl.models.predictor import AbstractEncodingPredictor, PairInputs
from mebns_pl.models.pyg import EncoderFactory, make_encoder
from mebns_pl.types import GraphSpec


@dataclass(frozen=True, kw_only=True)
class NCNInputs(PairInputs):
    """Pairs on a graph with their common neighbours.

    Args:
        common: the common neighbours of each pair.
    """

    common: RowSets

    def select(self, index: Tensor | slice) -> Self:
        """The pairs at ``index``."""
        return replace(super().select(index), common=self.common.select(index))


class NCN(AbstractEncodingPredictor[NCNInputs]):
    r"""Neural common neighbours (Wang, Yang and Zhang, ICLR 2024, 2302.00890, eq. 8).

    With embeddings :math:`z` of any encoder the logit of :math:`(u, v)` is

    .. math:: f\bigl(g(z_u \odot z_v) + h(\textstyle\sum_{w \in N(u) \cap N(v)} z_w)\bigr)

    where f, g and h are perceptrons of two layers. Neighbours are those of the graph that messages pass on, from which
    the positives of a batch are left out, as in the paper.

    Args:
        spec: the graph's size.
        encoder: makes the encoder from the spec.
        hidden_channels: H, width of the perceptrons.
        dropout: probability in [0, 1), of their hidden layers.

    Cost of M pairs: one encoding of the graph (C channels); for each pair the sum of its two degrees to find the common
    neighbours, C additions for each of them, and 2 C H + 3 H^2 multiply-adds.

    Example:
        >>> import torch
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> predictor = NCN(graph.spec, hidden_channels=8)
        >>> predictor(predictor.prepare(graph, torch.tensor([[0], [2]]))).shape
        torch.Size([1])
    """

    def __init__(
        self,
        spec: GraphSpec,
        encoder: EncoderFactory = GCN,
        hidden_channels: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(make_encoder(encoder, spec))
        self.ends = Perceptron(self.encoder.out_channels, hidden_channels, hidden_channels, dropout)
        self.common = Perceptron(self.encoder.out_channels, hidden_channels, hidden_channels, dropout)
        self.head = Perceptron(hidden_channels, hidden_channels, 1, dropout)

    def prepare(self, graph: Graph, pairs: Tensor, rows: Tensor | None = None, key: Key | None = None) -> NCNInputs:
        """Finds the common neighbours."""
        inputs = self.pair_inputs(graph, pairs, rows, key)
        return NCNInputs(**vars(inputs), common=common_neighbors(graph, pairs))

    def scorer(self, graph: Graph, key: Key | None = None) -> Callable[[NCNInputs], Tensor]:
        """Encodes ``graph`` once; the function returned scores."""
        z = self.encoder(graph, key and key.child("encoder"))

        def score(inputs: NCNInputs) -> Tensor:
            key, rows = inputs.key, inputs.rows
            product = z.index_select(0, inputs.pairs[0]) * z.index_select(0, inputs.pairs[1])
            ends = self.ends(product, rows, key and key.child("ends"))
            common = self.common(inputs.common.sums(z), rows, key and key.child("common"))
            return self.head(ends + common, rows, key and key.child("head")).squeeze(1)  # type: ignore[no-any-return]

        return score
