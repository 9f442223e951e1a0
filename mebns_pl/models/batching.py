"""How much of the graph a training step, and each step of an evaluation, works on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mebns_pl.checks import at_least
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.neighbors import ALL, sample_neighbors
from mebns_pl.keys import Key
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.encoders.abstract import AbstractLayeredEncoder
from mebns_pl.models.layers import parted_of, parted_tables, tables_of
from mebns_pl.models.layerwise import RESTRICTED, embed_layerwise, layerwise_scorer
from mebns_pl.models.predictor import Inputs, LinkPredictor, PairInputs, score_pairs
from mebns_pl.types import GraphSpec, to_device

Prepare = Callable[[Graph, Tensor, Tensor], Inputs]
"""(message-passing graph, pairs, row names) -> a predictor's inputs."""

PairScore = Callable[[Tensor], Tensor]
"""pairs ``(2, m)`` -> logits ``(m,)``."""

Nodes = Callable[[], Tensor | None]
"""() -> ``(n,)`` int64, the ends of all pairs that will be scored; None where these may be any."""


class AbstractBatching(ABC):
    """Whether steps see the whole graph on the device, or a part of it that is made for them."""

    def make(self, factory: Callable[[GraphSpec], LinkPredictor], spec: GraphSpec) -> LinkPredictor:
        """A predictor, with its embedding tables where they are to be."""
        return factory(spec)

    @abstractmethod
    def check(self, predictor: LinkPredictor, adaptive: bool, precision: str) -> None:
        """Refuses what cannot work so.

        Args:
            predictor: the predictor.
            adaptive: whether candidates are drawn in the step.
            precision: the trainer's.

        Raises:
            TypeError: a predictor of another kind.
            ValueError: settings that do not go with it.
        """

    @abstractmethod
    def tables(self, module: nn.Module) -> list[nn.Parameter]:
        """The embedding tables whose gradient is sparse: a step meets a few of their rows."""

    @abstractmethod
    def resident(self, graph: Graph, device: torch.device | str) -> Graph:
        """The message-passing graph where a system is to keep it."""

    @abstractmethod
    def inputs(
        self, prepare: Prepare | None, graph: Graph, pairs: Tensor, rows: Tensor, left_out: Tensor, key: Key
    ) -> Inputs | None:
        """A step's inputs, where they are made ahead, in loader workers.

        Args:
            prepare: the predictor's ``prepare`` where it is work, or None.
            graph: the whole graph on the CPU.
            pairs: ``(2, M)`` int64.
            rows: ``(M,)`` int64, their names for dropout.
            left_out: ``(2, n)`` int64, target edges to leave out of message passing.
            key: names the draws.

        Returns:
            The inputs, or None where the step makes them itself, on the resident graph.
        """

    @abstractmethod
    def of_few(
        self, predictor: LinkPredictor, graph: Graph, resident: Graph, pairs: Tensor, left_out: Tensor, key: Key
    ) -> Inputs:
        """Inputs of a few pairs, made in the step, on the resident graph's device.

        Args:
            predictor: the predictor.
            graph: the whole graph on the CPU.
            resident: the graph where a system keeps it.
            pairs: ``(2, M)`` int64, on any device.
            left_out: ``(2, n)`` int64, target edges to leave out of message passing.
            key: names the draws.
        """

    @abstractmethod
    def scorer(
        self, predictor: LinkPredictor, graph: Graph, device: torch.device | str, nodes: Nodes | None = None
    ) -> PairScore:
        """Encodes once; the function returned scores pairs on ``device``, in blocks, without dropout.

        Args:
            predictor: the predictor, on ``device``.
            graph: a resident graph.
            device: where to compute.
            nodes: tells which nodes will be asked for, so that others can be left out; None for any.
        """

    @abstractmethod
    def embeddings(self, predictor: LinkPredictor, graph: Graph, device: torch.device | str) -> Tensor | None:
        """Embeddings ``(N, C)`` of a graph's nodes without dropout, or None where the predictor has none."""

    @abstractmethod
    def stochastic_scores(self, predictor: LinkPredictor, graph: Graph, pairs: Tensor, key: Key) -> Tensor:
        """Logits ``(m,)`` of ``pairs`` ``(2, m)`` in one stochastic pass over a resident graph, without gradient."""


class FullGraph(AbstractBatching):
    """Every step encodes the whole graph, which is on the device: exact, and the fastest where it fits.

    Cost: a step's time and memory grow with the graph.

    Example:
        >>> FullGraph().tables(torch.nn.Linear(2, 3))
        []
    """

    def check(self, predictor: LinkPredictor, adaptive: bool, precision: str) -> None:
        """All will do."""

    def tables(self, module: nn.Module) -> list[nn.Parameter]:
        """None: a step meets every row."""
        return []

    def resident(self, graph: Graph, device: torch.device | str) -> Graph:
        """On the device."""
        return graph.to(device)

    def inputs(
        self, prepare: Prepare | None, graph: Graph, pairs: Tensor, rows: Tensor, left_out: Tensor, key: Key
    ) -> Inputs | None:
        """The predictor's own, where it says that they are work."""
        return None if prepare is None else prepare(graph.without(left_out), pairs, rows)

    def of_few(
        self, predictor: LinkPredictor, graph: Graph, resident: Graph, pairs: Tensor, left_out: Tensor, key: Key
    ) -> Inputs:
        """On the CPU, with the nodes alone that the pairs' embeddings are computed from, where these are not most."""
        device = resident.indptr.device
        pairs, left_out = (part.to(device, non_blocking=True) for part in (pairs, left_out))
        if _reach_little(predictor, resident, pairs):
            num_hops = _layered(predictor).num_layers
            part, places = sample_neighbors(resident, pairs.flatten(), ALL, num_hops, key, left_out)
            return PairInputs(part, places.view(2, -1), torch.arange(pairs.shape[1]))
        inputs: Inputs = predictor.prepare(resident.without(left_out), pairs)
        return inputs

    def scorer(
        self, predictor: LinkPredictor, graph: Graph, device: torch.device | str, nodes: Nodes | None = None
    ) -> PairScore:
        """The predictor's own scorer."""
        score = predictor.scorer(graph)
        return lambda pairs: score_pairs(predictor, score, graph, pairs)

    def embeddings(self, predictor: LinkPredictor, graph: Graph, device: torch.device | str) -> Tensor | None:
        """The predictor's own, on the device."""
        return predictor.embeddings(graph.to(device))

    def stochastic_scores(self, predictor: LinkPredictor, graph: Graph, pairs: Tensor, key: Key) -> Tensor:
        """One pass over the whole graph."""
        with torch.no_grad():
            return score_pairs(predictor, predictor.scorer(graph, key), graph, pairs, key)


@dataclass(frozen=True)
class NeighborSampling(AbstractBatching):
    """Every step encodes a sample of its pairs' surroundings, made in loader workers (Hamilton et al., 1706.02216).

    Of each node's neighbours at most ``fan_out`` are drawn anew in each step, as the step's key and the node say:
    a node's embedding does not depend on the batch or the rank that asks for it. GCN's sum over neighbours is
    estimated without bias, GraphSAGE's mean likewise; GAT attends to the neighbours drawn. The graph and its features
    stay on the CPU, or on disk; the meta set, evaluation and prediction use every neighbour, layer by layer
    (:mod:`mebns_pl.models.layerwise`). Needs an :class:`~mebns_pl.models.encoder_decoder.EncoderDecoder`.

    Cost: nodes in a step are at most pairs' ends times ``fan_out + ... + fan_out ** num_hops``, whatever the graph's
    size.

    Args:
        fan_out: largest number of neighbours that a node keeps, 1 or more.
        num_hops: how far to go, at least the encoder's number of layers.
        shard_tables: whether the rows of learned embeddings, with their optimizer's state, are parted among the ranks,
            for tables that are too large for a host; else each rank holds them all. See docs/cluster.md.

    Raises:
        ValueError: ``fan_out`` or ``num_hops`` is below 1.

    Example:
        >>> NeighborSampling(fan_out=10, num_hops=2).fan_out
        10
    """

    fan_out: int = 10
    num_hops: int = 2
    shard_tables: bool = False

    def __post_init__(self) -> None:
        at_least(1, fan_out=self.fan_out, num_hops=self.num_hops)

    def make(self, factory: Callable[[GraphSpec], LinkPredictor], spec: GraphSpec) -> LinkPredictor:
        """A predictor; tables that are parted among ranks have no rows before the ranks have met."""
        with parted_tables() if self.shard_tables else nullcontext():
            return factory(spec)

    def check(self, predictor: LinkPredictor, adaptive: bool, precision: str) -> None:
        """An encoder with a decoder, of no more layers than hops; candidates that are drawn ahead."""
        encoder = _layered(predictor)
        if encoder.num_layers > self.num_hops:
            raise ValueError(
                f"batching.num_hops: expected at least the encoder's {encoder.num_layers} layers, got {self.num_hops}"
            )
        if adaptive:
            raise ValueError(
                "sampler.proposal: got one that learns, which scores on the whole graph; NeighborSampling takes "
                "proposals that are drawn ahead"
            )
        if precision == "64-true":
            raise ValueError(
                "trainer.precision: NeighborSampling hands features out as they are stored, so not in 64-true; "
                "take 32-true or bf16-mixed"
            )

    def tables(self, module: nn.Module) -> list[nn.Parameter]:
        """All there are."""
        return tables_of(module)

    def resident(self, graph: Graph, device: torch.device | str) -> Graph:
        """On the CPU.

        Raises:
            ValueError: edges have weights, which draws of neighbours take no notice of.
        """
        if graph.weight is not None:
            raise ValueError(
                "batching: NeighborSampling takes all edges alike, and these have weights; allowed is FullGraph, or"
                " data.columns.weight: null"
            )
        return graph

    def inputs(
        self, prepare: Prepare | None, graph: Graph, pairs: Tensor, rows: Tensor, left_out: Tensor, key: Key
    ) -> Inputs | None:
        """The pairs in the numbers of their sample."""
        sample, places = sample_neighbors(graph, pairs.flatten(), self.fan_out, self.num_hops, key, left_out)
        return PairInputs(sample, places.view(2, -1), rows)

    def of_few(
        self, predictor: LinkPredictor, graph: Graph, resident: Graph, pairs: Tensor, left_out: Tensor, key: Key
    ) -> Inputs:
        """A sample of their surroundings, taken to the predictor's device."""
        made = self.inputs(None, graph, pairs, torch.arange(pairs.shape[1]), left_out, key)
        return to_device(made, next(predictor.parameters()).device)  # type: ignore[return-value]

    def scorer(
        self, predictor: LinkPredictor, graph: Graph, device: torch.device | str, nodes: Nodes | None = None
    ) -> PairScore:
        """Layer by layer, with every neighbour; of large graphs only what the nodes that are asked for depend on."""
        chosen = None if nodes is None or graph.num_nodes < RESTRICTED else nodes()
        return layerwise_scorer(_encoder_decoder(predictor), graph, device, nodes=chosen)

    def embeddings(self, predictor: LinkPredictor, graph: Graph, device: torch.device | str) -> Tensor | None:
        """Layer by layer, on the CPU."""
        return embed_layerwise(_layered(predictor), graph, device)

    def stochastic_scores(self, predictor: LinkPredictor, graph: Graph, pairs: Tensor, key: Key) -> Tensor:
        """Layer by layer, with every neighbour: equal to a pass over the whole graph, of which it looks at a part."""
        # Ranks that make other passes would look parted tables up in other blocks
        whole = graph.num_nodes < RESTRICTED or bool(parted_of(predictor))
        nodes = None if whole else pairs.flatten()
        return layerwise_scorer(_encoder_decoder(predictor), graph, pairs.device, key, nodes)(pairs)


def _reach_little(predictor: LinkPredictor, graph: Graph, pairs: Tensor) -> bool:
    """Whether all that the pairs' embeddings are computed from is surely less than the graph, and can be cut out."""
    plain = isinstance(predictor, EncoderDecoder) and type(predictor).prepare is EncoderDecoder.prepare
    layered = plain and isinstance(predictor.encoder, AbstractLayeredEncoder)
    if (
        not layered
        or graph.indptr.device.type != "cpu"
        or graph.x is None
        or graph.weight is not None
        or tables_of(predictor)
    ):
        return False
    ends = pairs.unique()
    grown = (1 + graph.num_edges / max(1, graph.num_nodes)) ** (_layered(predictor).num_layers - 1)
    return bool((graph.degree[ends] + 1).sum() * grown < graph.num_nodes)


def _encoder_decoder(predictor: LinkPredictor) -> EncoderDecoder:
    if not isinstance(predictor, EncoderDecoder):
        raise TypeError(f"batching: NeighborSampling needs an EncoderDecoder, got {type(predictor).__name__}")
    return predictor


def _layered(predictor: LinkPredictor) -> AbstractLayeredEncoder:
    encoder = _encoder_decoder(predictor).encoder
    if not isinstance(encoder, AbstractLayeredEncoder):
        raise TypeError(
            f"batching: NeighborSampling evaluates layer by layer and needs an AbstractLayeredEncoder, "
            f"got {type(encoder).__name__}"
        )
    return encoder
