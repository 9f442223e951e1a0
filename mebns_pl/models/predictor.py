"""The contract of every link predictor: encoder + decoder, SEAL, heuristics; and scoring many pairs by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from mebns_pl.families import Family
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.encoders.abstract import AbstractEncoder


class Inputs(Protocol):
    """What a predictor's ``forward`` takes: M prepared pairs, without parameters: a frozen dataclass of tensors."""

    @property
    def graph(self) -> Graph:
        """The graph that they were prepared on, as far as a predictor's scorer looks at it."""

    @property
    def key(self) -> Key | None:
        """The key of this stochastic pass (dropout), or None for a deterministic one."""

    def select(self, index: Tensor | slice) -> Self:
        """The pairs at ``index`` (int64 positions, bool mask, or slice), in that order."""

    def with_key(self, key: Key | None) -> Self:
        """The same pairs in another pass; nothing is prepared anew."""


@dataclass(frozen=True)
class PairInputs:
    """Node pairs on a graph: the inputs of every predictor that encodes the whole graph.

    Args:
        graph: the message-passing graph, target edges already left out.
        pairs: ``(2, M)`` int64.
        rows: ``(M,)`` int64, each pair's name within the union batch, under which it draws its dropout mask.
        key: the key of this stochastic pass, or None for a deterministic one.
    """

    graph: Graph
    pairs: Tensor
    rows: Tensor
    key: Key | None = None

    def select(self, index: Tensor | slice) -> Self:
        """The pairs at ``index``."""
        return replace(self, pairs=self.pairs[:, index], rows=self.rows[index])

    def with_key(self, key: Key | None) -> Self:
        """The same pairs in another pass."""
        return replace(self, key=key)


InputsT = TypeVar("InputsT", bound=Inputs)
PairInputsT = TypeVar("PairInputsT", bound=PairInputs)


class LinkPredictor(nn.Module, ABC, Generic[InputsT]):
    """Scores node pairs.

    The three parts of the contract:

    - ``prepare`` turns pairs into inputs. It uses no parameters, so that loader workers can call it.
    - ``forward`` turns inputs into logits, one a pair, independent of the other pairs in the call.
    - ``scorer`` shares among several calls what they have in common (an encoder's embeddings).

    Whether a pass is stochastic is said by ``inputs.key``, not by ``module.training``: with a key, dropout draws the
    mask which that key names, without one there is no dropout. The same key gives the same mask, row by row, on any
    device and any number of ranks. Layers that update buffers in ``forward`` (BatchNorm) are refused by the systems.

    What is prepared belongs to the pairs and to the predictor's constructor arguments, so that a step prepares once for
    teacher and student.

    Attributes:
        prepares_ahead: whether preparing is work worth doing in loader workers, where a batch's inputs are then made
            (enclosing subgraphs); false where the inputs are little more than the pairs. Inputs go to the main process
            through shared memory: with the graph in them each worker keeps a copy of it there.
        decodes: whether a pair's logit looks at nothing but its two nodes' embeddings, so that one encoding serves as
            long as weights and graph stay.
        score_block: most pairs that evaluation prepares and scores in one go; bounds its memory, and two of them are a
            step of the progress bar.

    Example:
        >>> class Degrees(LinkPredictor[PairInputs]):
        ...     def prepare(self, graph, pairs, rows=None, key=None):
        ...         return PairInputs(graph, pairs, torch.arange(pairs.shape[1]), key)
        ...     def forward(self, inputs):
        ...         return inputs.graph.degree[inputs.pairs].sum(dim=0).float()
        >>> path = Graph.from_edges(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> model = Degrees()
        >>> model(model.prepare(path, torch.tensor([[0], [2]]))).tolist()
        [2.0]
    """

    prepares_ahead: ClassVar[bool] = False
    decodes: ClassVar[bool] = False
    score_block: ClassVar[int] = 2**16

    @abstractmethod
    def prepare(self, graph: Graph, pairs: Tensor, rows: Tensor | None = None, key: Key | None = None) -> InputsT:
        """Makes the inputs of ``pairs``.

        Args:
            graph: message-passing graph; target edges are already left out.
            pairs: ``(2, M)`` int64.
            rows: ``(M,)`` int64, names of the pairs for keyed dropout; ``0 ... M - 1`` by default.
            key: key of a stochastic pass, or None.
        """

    @abstractmethod
    def forward(self, inputs: InputsT) -> Tensor:
        """Logits, shape ``(M,)``, unbounded."""

    def scorer(self, graph: Graph, key: Key | None = None) -> Callable[[InputsT], Tensor]:
        """A function from inputs (prepared on ``graph`` with ``key``) to logits, equal to ``forward``.

        Predictors that encode the graph do so once, here. Gradients flow where they are enabled at both calls.
        """
        return self

    def embeddings(self, graph: Graph) -> Tensor | None:
        """Embeddings ``(N, C)`` in which near nodes are likely linked, without dropout; None where there are none."""
        return None

    @property
    def embeds(self) -> bool:
        """Whether there are :meth:`embeddings`."""
        return type(self).embeddings is not LinkPredictor.embeddings

    @property
    def inductive(self) -> bool:
        """Whether graphs with nodes that training has not seen can be scored."""
        return False

    @staticmethod
    def pair_inputs(graph: Graph, pairs: Tensor, rows: Tensor | None, key: Key | None) -> PairInputs:
        """The :class:`PairInputs` with default rows: all that whole-graph predictors have to prepare."""
        return PairInputs(
            graph, pairs, torch.arange(pairs.shape[1], device=pairs.device) if rows is None else rows, key
        )


PREDICTORS = Family(LinkPredictor, "--model.predictor")
"""Every predictor there is."""


class AbstractEncodingPredictor(LinkPredictor[PairInputsT], Generic[PairInputsT]):
    """A predictor that encodes the graph's nodes once, in ``scorer``, for all pairs.

    Args:
        encoder: the encoder.
    """

    def __init__(self, encoder: AbstractEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def scorer(self, graph: Graph, key: Key | None = None) -> Callable[[PairInputsT], Tensor]:
        """Encodes ``graph`` once; the function returned scores pairs."""

    def forward(self, inputs: PairInputsT) -> Tensor:
        """Logits ``(M,)``."""
        return self.scorer(inputs.graph, inputs.key)(inputs)

    def embeddings(self, graph: Graph) -> Tensor:
        """The encoder's, ``(N, C)``."""
        return self.encoder(graph)  # type: ignore[no-any-return]

    @property
    def inductive(self) -> bool:
        """Whether the encoder is."""
        return self.encoder.inductive


def score_pairs(
    predictor: LinkPredictor, score: Callable[[Inputs], Tensor], graph: Graph, pairs: Tensor, key: Key | None = None
) -> Tensor:
    """Logits ``(m,)`` of ``pairs`` ``(2, m)``, prepared and scored in blocks; with a key, in one stochastic pass.

    Never in half precision: scores of 8 bits would be tied in their hundreds, and ranks with them.
    """
    if not pairs.shape[1]:
        return torch.empty(0, device=pairs.device)
    rows = torch.arange(pairs.shape[1], device=pairs.device).split(predictor.score_block)
    with torch.autocast(pairs.device.type, enabled=False):
        return torch.cat([score(predictor.prepare(graph, pairs[:, block], block, key)) for block in rows])
