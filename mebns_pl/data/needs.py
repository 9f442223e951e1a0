"""What a system needs of the data, stated once: the data module looks it up, and nothing is set behind its back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.predictor import Inputs
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.pools.abstract import Embed

InputsAhead = Callable[[Graph, Tensor, Tensor, Tensor, Key], Inputs | None]
"""(whole graph, pairs ``(2, M)``, their names ``(M,)``, edges to leave out ``(2, n)``, key) -> a step's inputs where
loader workers make them, else None."""


@dataclass(frozen=True)
class TeacherNegatives:
    """Negatives that a teacher learns from.

    Args:
        structure_ratio: probability of a structural non-edge, in [0, 1]; the others are the sampler's.
        count: T, negatives an anchor.
        epochs: for so many epochs they are drawn; None draws them for ever.
    """

    structure_ratio: float
    count: int
    epochs: int | None


@dataclass(frozen=True)
class Needs:
    """What a system needs of the data.

    Args:
        sampler: draws the candidates; where its proposal is adaptive, loaders draw none.
        meta_edges: whether meta edges are kept from the losses; otherwise they are training edges like others.
        teacher: a teacher's negatives, or None.
        inputs: makes a step's inputs ahead, or None.
        most_pairs: most pairs that can be scored at once in evaluation, or None for the loaders' own bound.
        embed: (graph) -> the student's embeddings ``(N, C)`` of its nodes, or None.
        together: whether all ranks must embed at the same time, as where they look up parted tables.
    """

    sampler: Sampler = field(default_factory=Sampler)
    meta_edges: bool = False
    teacher: TeacherNegatives | None = None
    inputs: InputsAhead | None = None
    most_pairs: int | None = None
    embed: Embed | None = None
    together: bool = False
