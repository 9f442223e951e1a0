"""UMD-Collector: a meta set of pairs whose labels the teacher is sure of, hard ones included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mebns_pl.checks import at_least, within
from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key, permutation
from mebns_pl.negatives.proposals.abstract import AbstractStaticProposal
from mebns_pl.shares import ceil_share


@dataclass(frozen=True)
class MetaSet:
    """Pairs of low uncertainty with their labels, as many positives as negatives (UMD-Collector); on the CPU.

    Args:
        pairs: ``(2, m)`` int64.
        labels: ``(m,)`` float32, 1 for a training edge set apart and 0 for a sampled non-edge.
        mean: ``(m,)`` float32, mean logit over the stochastic passes.
        std: ``(m,)`` float32, its standard deviation: the uncertainty.
        counts: what happened on the way, for the logs: ``scored``, ``contradicted``, ``kept``.
    """

    pairs: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    counts: dict[str, int]

    @property
    def edges(self) -> Tensor:
        """``(2, p)``, those labelled 1."""
        return self.pairs[:, self._places(1.0)]

    @property
    def others(self) -> Tensor:
        """``(2, n)``, those labelled 0."""
        return self.pairs[:, self._places(0.0)]

    def _places(self, label: float) -> Tensor:
        """By numpy: the set lives on the CPU, and no device is to be waited for."""
        return torch.from_numpy(np.flatnonzero(self.labels.cpu().numpy() == label))

    def check(self, num_nodes: int | None = None) -> None:
        """Looks whether the parts are what they should be, where they come from a file.

        Args:
            num_nodes: of the graph, where it is known.

        Raises:
            ValueError: with the part that is not.
        """
        shape = tuple(getattr(self.pairs, "shape", ()))
        for name in ("pairs", "labels", "mean", "std"):
            value = getattr(self, name)
            right = isinstance(value, Tensor) and value.layout == torch.strided
            if not right or tuple(value.shape) != ((2, *shape[1:2]) if name == "pairs" else shape[1:2]):
                got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name}: got {got}; expected a tensor of {'(2, m)' if name == 'pairs' else '(m,)'}")
            if (value.dtype == torch.int64) != (name == "pairs"):
                raise ValueError(f"{name}: got {value.dtype}")
        ends = self.pairs
        if ends.numel() and (int(ends.min()) < 0 or (num_nodes is not None and int(ends.max()) >= num_nodes)):
            raise ValueError("pairs: got nodes that are not in the graph")
        if not isinstance(self.counts, dict):
            raise ValueError(f"counts: got {type(self.counts).__name__}")

    def draw(self, size: int, generator: torch.Generator) -> MetaSet:
        """A balanced part of at most ``size`` pairs, half of each label, drawn without replacement."""
        half = max(1, size // 2)
        chosen = []
        for label in (1.0, 0.0):
            index = self._places(label)
            chosen.append(index[torch.randperm(len(index), generator=generator)[:half]])
        index = torch.cat(chosen).to(self.pairs.device)
        return replace(
            self, pairs=self.pairs[:, index], labels=self.labels[index], mean=self.mean[index], std=self.std[index]
        )


Score = Callable[[Graph, Tensor, Key], Tensor]
"""(graph, pairs (2, m), key) -> logits (m,): one stochastic pass of the teacher."""

Spread = Callable[[Callable[[int], Tensor], int], Iterator[Tensor]]
"""(work, n) -> work(0) ... work(n - 1), in order: how the passes are shared among ranks."""


def one_by_one(work: Callable[[int], Tensor], count: int) -> Iterator[Tensor]:
    """The passes of a single process."""
    return map(work, range(count))


def augmented(graph: Graph, edge_drop: float, feature_mask: float, key: Key) -> Graph:
    """Drops undirected edges and masks feature columns at random (as GRACE, 2006.04131).

    Args:
        graph: the message-passing graph.
        edge_drop: probability to drop an edge, in [0, 1).
        feature_mask: probability to zero a feature column, in [0, 1).
        key: names the draw.
    """
    device = graph.indptr.device
    keep_edge = torch.rand(graph.num_edges // 2, generator=key.child("edges").generator()) >= edge_drop
    graph = graph.dropped(keep_edge.to(device))
    if graph.spec.num_features == 0 or feature_mask == 0:
        return graph
    keep_feature = torch.rand(graph.spec.num_features, generator=key.child("features").generator()) >= feature_mask
    return graph.masked_features(keep_feature.to(device))


def moments(
    score: Score,
    graph: Graph,
    pairs: Tensor,
    passes: int,
    edge_drop: float,
    feature_mask: float,
    key: Key,
    spread: Spread = one_by_one,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the logits over stochastic passes, each on an augmented graph.

    The sums run in the order of the passes wherever they were computed: the same bits on any number of ranks.

    Returns:
        mean ``(m,)`` and unbiased standard deviation ``(m,)``, float64.
    """
    total = square = torch.zeros(pairs.shape[1], dtype=torch.float64, device=pairs.device)
    shift = None

    def one_pass(number: int) -> Tensor:
        one = key.child(number)
        return score(augmented(graph, edge_drop, feature_mask, one), pairs, one.child("dropout")).double()

    for logits in spread(one_pass, passes):
        shift = logits if shift is None else shift  # sums round the first pass: no cancellation
        total = total + (logits - shift)
        square = square + (logits - shift) ** 2
    assert shift is not None
    variance = (square - total**2 / passes) / (passes - 1)
    return shift + total / passes, variance.clamp(min=0).sqrt()


def least_uncertain(mean: Tensor, std: Tensor, keep_fraction: float, num_strata: int) -> Tensor:
    """Keeps the lowest ``std`` within each of ``num_strata`` equal-count strata of ``mean``.

    Keeping by std alone would keep easy pairs; strata keep every range of the mean.

    Args:
        mean: ``(m,)``.
        std: ``(m,)``.
        keep_fraction: share to keep of each stratum, in (0, 1]; rounded up.
        num_strata: 1 or more.

    Returns:
        ``(m,)`` bool.
    """
    size = mean.numel()
    stratum = torch.empty(size, dtype=torch.int64, device=mean.device)
    order = mean.argsort(stable=True)
    stratum[order] = torch.arange(size, device=mean.device) * num_strata // max(size, 1)
    keep = torch.zeros(size, dtype=torch.bool, device=mean.device)
    for number in range(num_strata):
        members = (stratum == number).nonzero().flatten()
        best = std[members].argsort(stable=True)[: ceil_share(keep_fraction, len(members))]
        keep[members[best]] = True
    return keep


@dataclass(frozen=True)
class UMDCollector:
    """Collects the meta set with graph augmentation and Monte-Carlo dropout (1506.02142).

    Each pair is scored in ``num_passes`` stochastic passes of the teacher, dropout on, each on an augmented graph.
    The uncertainty is the standard deviation of the *logit*: that of the probability shrinks at both ends and would
    pick easy pairs. Pairs whose mean probability contradicts their label by more than ``contradiction`` are dropped
    and counted; of the rest, each label keeps the least uncertain within strata of the mean, and the larger label is
    cut at random to the size of the smaller.

    Args:
        num_passes: T, 2 or more.
        edge_drop: probability of dropping an edge in a pass, in [0, 1).
        feature_mask: probability of masking a feature column in a pass, in [0, 1).
        keep_fraction: share kept within each stratum, in (0, 1].
        num_strata: strata of the mean logit, 1 or more.
        contradiction: a probability in [0.5, 1]: an edge below ``1 - contradiction`` or a non-edge above it is dropped.
        structure_ratio: share of non-edges of ``proposal`` in the pool, the others being the sampler's, in [0, 1]. With
            none the weight net learns to tell edges from far-off pairs, and so to favour easy negatives; on dense
            graphs half of the hardest structural draws are missing edges, which it then learns to push down.
        proposal: draws that share of the pool's non-edges; ``data.structure`` by default.
        negatives_per_positive: size of the pool of non-edges offered for each meta edge, 1 or more.
        batch_size: pairs of a meta batch, half edges and half non-edges, 2 or more.
        refresh_epochs: the meta set is collected anew every so many epochs, 1 or more.

    Raises:
        ValueError: an argument out of its range, or neither edges dropped nor features masked.

    Example:
        >>> UMDCollector(num_passes=5).num_passes
        5
    """

    num_passes: int = 10
    edge_drop: float = 0.2
    feature_mask: float = 0.2
    keep_fraction: float = 0.5
    num_strata: int = 5
    contradiction: float = 0.9
    structure_ratio: float = 0.5
    negatives_per_positive: int = 4
    batch_size: int = 512
    refresh_epochs: int = 5
    proposal: AbstractStaticProposal | None = None

    def __post_init__(self) -> None:
        at_least(2, num_passes=self.num_passes, batch_size=self.batch_size)
        at_least(1, num_strata=self.num_strata, negatives_per_positive=self.negatives_per_positive)
        at_least(1, refresh_epochs=self.refresh_epochs)
        within("[1, 10_000]", "number", num_strata=self.num_strata)
        within("[0, 1)", "probability", edge_drop=self.edge_drop, feature_mask=self.feature_mask)
        if self.edge_drop == 0 and self.feature_mask == 0:
            raise ValueError(
                "edge_drop, feature_mask: both are 0, so passes would not differ by augmentation; set one above 0"
            )
        within("[0, 1]", structure_ratio=self.structure_ratio)
        within("(0, 1]", keep_fraction=self.keep_fraction)
        within("[0.5, 1]", "probability", contradiction=self.contradiction)

    @torch.no_grad()
    def collect(
        self, score: Score, graph: Graph, pairs: Tensor, labels: Tensor, key: Key, spread: Spread = one_by_one
    ) -> MetaSet:
        """Scores a pool of pairs and keeps the meta set.

        Args:
            score: one stochastic pass of the teacher.
            graph: the message-passing graph, the pool's own edges left out.
            pairs: ``(2, m)`` int64, the pool.
            labels: ``(m,)`` float, 1 edge and 0 non-edge; both must occur.
            key: names all draws.
            spread: shares the passes among ranks.

        Returns:
            The meta set, as many edges as non-edges, at least one each.

        Raises:
            ValueError: one of the labels does not occur.
        """
        if bool((labels > 0.5).all()) or not bool((labels > 0.5).any()):
            raise ValueError("labels: the pool must hold edges (1) and non-edges (0), got one label only")
        mean, std = moments(score, graph, pairs, self.num_passes, self.edge_drop, self.feature_mask, key, spread)
        wrong = torch.where(labels > 0.5, 1 - mean.sigmoid(), mean.sigmoid()) > self.contradiction
        kept = []
        for label in (1, 0):
            index = ((labels == label) & ~wrong).nonzero().flatten()
            if not len(index):  # every pair contradicted: a meta set needs both labels, so all are looked at
                index = (labels == label).nonzero().flatten()
            index = index[least_uncertain(mean[index], std[index], self.keep_fraction, self.num_strata)]
            kept.append(index[permutation(len(index), key.child(f"cut{label}")).to(index.device)])
        size = min(len(index) for index in kept)
        index = torch.cat([index[:size].sort().values for index in kept])
        counts = {"scored": pairs.shape[1], "contradicted": int(wrong.sum()), "kept": len(index)}
        return MetaSet(pairs[:, index], labels[index].float(), mean[index].float(), std[index].float(), counts)
