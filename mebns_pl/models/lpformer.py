"""LPFormer: an encoder whose decoder also attends to the nodes that are near both ends of a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mebns_pl.checks import above, at_least, fits
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.near_nodes import NearNodes, near_nodes, page_rank_lists
from mebns_pl.graph.row_sets import RowSets
from mebns_pl.keys import Key
from mebns_pl.models.encoders.gcn import GCN
from mebns_pl.models.layers import Perceptron
from mebns_pl.models.predictor import AbstractEncodingPredictor, PairInputs
from mebns_pl.models.pyg import EncoderFactory, make_encoder
from mebns_pl.types import GraphSpec

NUM_GROUPS = 3


@dataclass(frozen=True, kw_only=True)
class LPFormerInputs(PairInputs):
    """Pairs on a graph with the nodes that are near both ends.

    Args:
        near: the nodes of each pair, on the whole graph without the pair's own edge.
    """

    near: NearNodes

    def select(self, index: Tensor | slice) -> Self:
        """The pairs at ``index``."""
        return replace(super().select(index), near=self.near.select(index))


class LPFormer(AbstractEncodingPredictor[LPFormerInputs]):
    r"""Attention to the nodes near both ends of a pair (Shomer et al., KDD 2024, 2310.11009).

    The nodes w that are kept for (u, v) are parted into neighbours of both, of one, and of neither; of each group those
    are kept whose personalised PageRank for u and for v is above the group's threshold. With embeddings :math:`z` of
    any encoder, and of each kept node its place :math:`p_w = m(\pi_u(w), \pi_v(w)) + m(\pi_v(w), \pi_u(w))`, m a
    perceptron of its group's own, the logit of (u, v) is

    .. math::
        f\bigl(z_u \odot z_v \,\|\, \textstyle\sum_w \mathrm{softmax}_w(e_w) \, x_w \,\|\, \log(1 + n)\bigr), \quad
        x_w = W [z_w \,\|\, p_w], \quad e_w = a^\top \mathrm{LeakyReLU}\bigl(U (z_u + z_v) + x_w\bigr)

    where f is a perceptron of two layers and n the three groups' numbers of nodes: the attention of GATv2, one head,
    one layer. PageRank enters as :math:`\log(1 + 10^4 \pi)`.

    Messages pass on the graph without a batch's positives, as in the paper. Nodes, groups and PageRank are those of the
    whole graph *without the pair's own edge*, so that they do not depend on the batch and a training edge looks as a
    held-out one does. The paper takes PageRank of the graph with that edge, by which training edges can be told; here
    the edge is left out of it by a formula (:func:`~mebns_pl.graph.near_nodes.near_nodes`) at no cost worth the name.

    PageRank of all nodes is found at the first ``prepare`` on a graph and kept with it, at most 12 ``top`` bytes a
    node; on a graph with edges dropped (augmentation) it is found anew, of the pairs' ends alone.

    Args:
        spec: the graph's size.
        encoder: makes the encoder from the spec.
        hidden_channels: H, width of the perceptron.
        attention_channels: A, width of the attention.
        place_channels: R, width of the places' perceptrons.
        top: k, entries of a node's list of PageRank, 1 or more. Neighbours of hubs that are not among them are not
            seen.
        one_hop: threshold of the neighbours of one end, above 0; those of both are all kept.
        farther: threshold of the neighbours of neither, above 0.
        alpha: restart probability of PageRank, in (0, 1).
        eps: its precision, above 0.
        dropout: probability in [0, 1), of the perceptron's hidden layer.

    Raises:
        ValueError: an argument out of its range.

    Cost of M pairs that keep m nodes in all: one encoding of the graph (C channels) and 2 N C A; for each pair 2 k to
    merge the lists and (C + A) H; for each node kept 2 R + R^2 + R A + 5 A. Memory: M (C + H) + 5 m A. PageRank: once
    at most 1 / (alpha eps) steps a node.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> predictor = LPFormer(graph.spec, hidden_channels=8)
        >>> predictor(predictor.prepare(graph, torch.tensor([[0], [2]]))).shape
        torch.Size([1])
    """

    score_block = 2**12

    def __init__(
        self,
        spec: GraphSpec,
        encoder: EncoderFactory = GCN,
        hidden_channels: int = 256,
        attention_channels: int = 64,
        place_channels: int = 32,
        top: int = 100,
        one_hop: float = 1e-3,
        farther: float = 1e-2,
        alpha: float = 0.15,
        eps: float = 1e-5,
        dropout: float = 0.5,
    ) -> None:
        at_least(1, attention_channels=attention_channels, place_channels=place_channels, top=top)
        above(0, one_hop=one_hop, farther=farther)
        super().__init__(make_encoder(encoder, spec))
        channels = self.encoder.out_channels
        fits(16 * attention_channels * (2 * channels + place_channels), attention_channels=attention_channels)
        fits(16 * NUM_GROUPS * place_channels**2, place_channels=place_channels)
        fits(12 * min(top, spec.num_nodes) * spec.num_nodes, top=top)
        self.measure = PersonalizedPageRank(alpha, eps)
        self.top = top
        self.thresholds = (0.0, one_hop, farther)
        self.first_places = nn.ModuleList(nn.Linear(2, place_channels) for _ in range(NUM_GROUPS))
        self.last_places = nn.ModuleList(nn.Linear(place_channels, place_channels) for _ in range(NUM_GROUPS))
        self.ends = nn.Linear(channels, attention_channels, bias=False)
        self.nodes = nn.Linear(channels, attention_channels, bias=False)
        self.places = nn.Linear(place_channels, attention_channels)
        self.attention = nn.Linear(attention_channels, 1, bias=False)
        self.head = Perceptron(channels + attention_channels + NUM_GROUPS, hidden_channels, 1, dropout)

    def prepare(
        self, graph: Graph, pairs: Tensor, rows: Tensor | None = None, key: Key | None = None
    ) -> LPFormerInputs:
        """Picks the nodes near both ends."""
        table, places = page_rank_lists(graph, self.measure, self.top, pairs)
        near = near_nodes(table, pairs, places, graph.num_nodes, self.thresholds)
        return LPFormerInputs(**vars(self.pair_inputs(graph, pairs, rows, key)), near=near)

    def scorer(self, graph: Graph, key: Key | None = None) -> Callable[[LPFormerInputs], Tensor]:
        """Encodes ``graph`` once; the function returned scores."""
        z = self.encoder(graph, key and key.child("encoder"))
        ends, nodes = self.ends(z), self.nodes(z)

        def score(inputs: LPFormerInputs) -> Tensor:
            source, target = inputs.pairs
            product = z.index_select(0, source) * z.index_select(0, target)
            asked = ends.index_select(0, source) + ends.index_select(0, target)
            attended = self._attend(asked, nodes, inputs.near)
            h = torch.cat([product, attended, inputs.near.counts.to(z.dtype).log1p()], dim=1)
            return self.head(h, inputs.rows, inputs.key and inputs.key.child("head")).squeeze(1)  # type: ignore[no-any-return]

        return score

    def _attend(self, asked: Tensor, nodes: Tensor, near: NearNodes) -> Tensor:
        """``(M, A)``: what each pair's nodes have in the mean that attention weighs, 0 where there are none."""
        sets = near.sets
        pair = torch.repeat_interleave(torch.arange(sets.num_sets, device=sets.ptr.device), sets.sizes)
        x = nodes.index_select(0, sets.members) + self.places(self._places(near, nodes.dtype))
        logits = self.attention(functional.leaky_relu(asked.index_select(0, pair) + x, 0.2)).squeeze(1)
        return attention_means(logits, x, sets.ptr, pair)

    def _places(self, near: NearNodes, dtype: torch.dtype) -> Tensor:
        """``(m, R)``, the same whichever end comes first."""
        ranks = (1e4 * near.ranks).log1p().to(dtype)
        order = near.groups.argsort(stable=True)
        parts = ranks[order].split(torch.bincount(near.groups, minlength=NUM_GROUPS).tolist())
        found = [
            last(first(part).relu() + first(part.flip(1)).relu())
            for part, first, last in zip(parts, self.first_places, self.last_places, strict=True)
        ]
        return torch.cat(found).index_select(0, order.argsort())


def attention_means(logits: Tensor, x: Tensor, ptr: Tensor, pair: Tensor) -> Tensor:
    """The means of each set's rows by the softmax of their logits: ``(M, A)``, 0 of an empty set.

    Args:
        logits: ``(m,)``.
        x: ``(m, A)``, the rows of one set together.
        ptr: ``(M + 1,)`` int64, where each set starts.
        pair: ``(m,)`` int64, the set of each row.
    """
    own = RowSets(ptr, torch.arange(pair.numel(), device=ptr.device), pair.numel())
    highest = logits.new_zeros(own.num_sets).scatter_reduce(0, pair, logits.detach(), "amax", include_self=False)
    powers = (logits - highest.index_select(0, pair)).exp()[:, None]
    weighed = own.sums(torch.cat([powers * x, powers], dim=1))
    # The highest power of a set is 1, so that no sum is small
    return weighed[:, :-1] / (weighed[:, -1:] + (own.sizes == 0)[:, None])
