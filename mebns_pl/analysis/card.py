"""What a test's metrics are worth: beside chance, heuristics and the plain control. Numbers in, sentences out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph, pair_keys
from mebns_pl.graph.measures.abstract import AbstractPairMeasure
from mebns_pl.graph.measures.cosine import FeatureCosine
from mebns_pl.graph.measures.katz import Katz
from mebns_pl.graph.measures.local_path import LocalPath
from mebns_pl.graph.measures.neighbors import AdamicAdar, CommonNeighbors, Jaccard, ResourceAllocation
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.graph.measures.paths_of_length_three import PathsOfLengthThree
from mebns_pl.graph.measures.preferential_attachment import PreferentialAttachment
from mebns_pl.graph.measures.shortest_path import ShortestPath
from mebns_pl.graph.measures.surroundings import SurroundingsCosine
from mebns_pl.metrics import functional
from mebns_pl.types import MANY_FEATURES, EvalBatch

HITS = (1, 3, 10, 20, 50, 100)
COUNTED = "PathsOfLengthThree, counted"
HEURISTICS: dict[str, AbstractPairMeasure] = {
    "CommonNeighbors": CommonNeighbors(),
    "AdamicAdar": AdamicAdar(),
    "ResourceAllocation": ResourceAllocation(),
    "Jaccard": Jaccard(),
    "PreferentialAttachment": PreferentialAttachment(),
    "LocalPath": LocalPath(),
    COUNTED: PathsOfLengthThree(degree_normalized=False),
    "PathsOfLengthThree": PathsOfLengthThree(),
}
"""The heuristics that a model is held against, by name; paths of length three counted, and weighted by degrees."""
OF_FEATURES: dict[str, AbstractPairMeasure] = {
    "FeatureCosine": FeatureCosine(),
    "SurroundingsCosine": SurroundingsCosine(),
}
"""Those of graphs with :data:`~mebns_pl.types.MANY_FEATURES`."""
OF_WALKS: dict[str, tuple[AbstractPairMeasure, float]] = {
    "PersonalizedPageRank": (PersonalizedPageRank(), 3.5e7),
    "ShortestPath": (ShortestPath(), 3.5e7),
    "Katz": (Katz(), 1e7),
}
"""Those that go through the graph from each node; and the most nodes times edges up to which that takes seconds."""
_MOST_PATTERNS = 50
_LONGEST = 5000
_MOST_DRAWS = 10**8
_CHUNK = 2**22
_SAME = 0.0005


# Chance


def random_ranks(repeats: Sequence[int]) -> np.ndarray:
    """The distribution of a positive's rank among negatives that a random order of the pairs gives.

    A pair that stands several times among the negatives counts each time, as in the metrics, so that ranks jump over
    it. With negatives that are all distinct every rank is equally likely. Exact, by the generating function: a uniform
    threshold t leaves each distinct negative above with probability t. Of more than 5,000 negatives repeats are taken
    for distinct.

    Args:
        repeats: how many distinct negatives stand once, twice, ... among them.

    Returns:
        ``(n + 1,)`` float64: the probability of rank 1 ... n + 1, with n negatives in all.

    Example:
        >>> random_ranks([1]).tolist(), random_ranks([0, 1]).round(9).tolist()
        ([0.5, 0.5], [0.5, 0.0, 0.5])
    """
    size = sum(times * count for times, count in enumerate(repeats, 1)) + 1
    if not any(repeats[1:]) or size > _LONGEST:
        return np.full(size, 1 / size)
    nodes, weights = np.polynomial.legendre.leggauss(min(sum(repeats) // 2 + 1, 96))
    threshold, weights = (nodes[:, None] + 1) / 2, weights / 2
    root = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)  # the other half are their conjugates
    product = np.ones((len(nodes), len(root)), dtype=complex)
    for times, count in enumerate(repeats, 1):
        if count:
            product *= (1 - threshold + threshold * root**times) ** count
    found: np.ndarray = np.fft.irfft(weights @ product, size)
    return found.clip(0)


def chance(patterns: np.ndarray, num_positives: int, num_random: int) -> dict[str, float]:
    """The expected metrics of a random order of the pairs.

    Where more than 50 different patterns of repeated negatives occur, ``mrr`` and ``hits@k`` are means over 50 of
    them, evenly chosen.

    Args:
        patterns: ``(p, m)`` of the negatives, as of :func:`repeat_patterns`; one row where all edges share them.
        num_positives: held-out edges.
        num_random: random non-edges, that AUC and AP are against.

    Returns:
        ``mrr``, ``hits@k``, ``auc`` and ``ap``, in [0, 1].

    Example:
        >>> {name: round(value, 4) for name, value in chance(np.array([[3]]), 1, 1).items() if "@" not in name}
        {'mrr': 0.5208, 'auc': 0.5, 'ap': 0.5}
    """
    different, counts = np.unique(patterns, axis=0, return_counts=True)
    if len(different) > _MOST_PATTERNS:
        chosen = np.linspace(0, len(different) - 1, _MOST_PATTERNS).astype(int)
        different, counts = different[chosen], counts[chosen]
    values: dict[str, float] = dict.fromkeys(["mrr", *(f"hits@{k}" for k in HITS)], 0.0)
    for repeats, share in zip(different.tolist(), counts / counts.sum(), strict=True):
        ranks = random_ranks(repeats)
        values["mrr"] += float(share * (ranks / np.arange(1, len(ranks) + 1)).sum())
        for k in HITS:
            values[f"hits@{k}"] += float(share * ranks[:k].sum())
    return {**values, "auc": 0.5, "ap": num_positives / max(num_positives + num_random, 1)}


def patterns_of(batch: EvalBatch, num_nodes: int) -> np.ndarray:
    """:func:`repeat_patterns` of a stage's negatives; one row where all edges share them."""
    if batch.num_negatives is None:
        return repeat_patterns(batch.random_negatives[:, None], num_nodes)
    parts = [part for part in batch.parts(_CHUNK) if part.negatives is not None]
    return _joined([repeat_patterns(part.negatives, num_nodes, part.repeated) for part in parts])  # type: ignore[arg-type]


def repeat_patterns(negatives: Tensor, num_nodes: int, repeated: Tensor | None = None) -> np.ndarray:
    """How often negatives stand among those of an edge.

    Args:
        negatives: ``(2, p, n)`` int64; either direction is the same pair.
        num_nodes: N.
        repeated: ``(p, n)`` bool, those that do not count; None counts all.

    Returns:
        ``(p, m)`` int32: how many distinct pairs stand once, twice, ... m times.

    Example:
        >>> repeat_patterns(torch.tensor([[[0, 0, 2]], [[2, 3, 0]]]), num_nodes=4).tolist()
        [[1, 1]]
    """
    found = _joined([_repeats_of(keys) for keys in _sorted_keys(negatives, num_nodes)])
    if repeated is not None:
        once = repeated.any(dim=1)
        found[once.numpy()] = 0
        found[once.numpy(), 0] = (~repeated[once]).sum(dim=1).numpy()
    return found


def _joined(blocks: Sequence[np.ndarray]) -> np.ndarray:
    width = max(block.shape[1] for block in blocks)
    return np.concatenate([np.pad(block, ((0, 0), (0, width - block.shape[1]))) for block in blocks])


def _sorted_keys(negatives: Tensor, num_nodes: int) -> Iterator[np.ndarray]:
    """The pairs' keys ``(rows, n)``, ascending in each row, block by block."""
    for block in negatives.split(max(1, _CHUNK // max(negatives.shape[2], 1)), dim=1):
        yield pair_keys(block.amin(dim=0), block.amax(dim=0), num_nodes).sort(dim=1).values.numpy()


def _repeats_of(keys: np.ndarray) -> np.ndarray:
    """``(rows, m)``: of each row of sorted keys, how many stand once, twice, ... m times, the most that occurs."""
    first = np.ones(keys.shape, dtype=bool)
    first[:, 1:] = keys[:, 1:] != keys[:, :-1]
    starts = first.ravel().nonzero()[0]
    lengths = np.diff(starts, append=keys.size)
    counted = np.zeros((len(keys), int(lengths.max(initial=1))), dtype=np.int32)
    np.add.at(counted, (starts // keys.shape[1], lengths - 1), 1)
    return counted


def shared_pairs(negatives: Tensor, edges: Tensor, num_nodes: int) -> int:
    """How many of the negatives ``(2, ...)`` are among ``edges`` ``(2, m)``, in either direction, repeats counted."""
    keys = pair_keys(edges.amin(dim=0), edges.amax(dim=0), num_nodes)
    blocks = negatives.flatten(1).split(_CHUNK, dim=1)
    found = (torch.isin(pair_keys(b.amin(dim=0), b.amax(dim=0), num_nodes), keys).sum() for b in blocks)
    return sum(int(count) for count in found)


# Heuristics


@dataclass(frozen=True)
class Scored:
    """What a scorer reaches on held-out edges.

    Args:
        metrics: ``mrr``, ``hits@k``, ``auc``, ``ap``.
        ranks: ``(p,)`` each edge's rank.
    """

    metrics: dict[str, float]
    ranks: np.ndarray


def num_pairs(batch: EvalBatch) -> int:
    """How many pairs an evaluation scores."""
    num = batch.positives.shape[1]
    return num + batch.random_negatives.shape[1] + num * (batch.num_negatives or 0)


def heuristic_results(batch: EvalBatch, graph: Graph) -> dict[str, Scored]:
    """What :data:`HEURISTICS` reach on held-out edges with the same negatives, best MRR first.

    Of a graph with 64 features or more :data:`OF_FEATURES`, too, of a small one :data:`OF_WALKS`.

    Args:
        batch: held-out edges with their negatives, on the CPU.
        graph: what test edges are scored on, on the CPU.

    Example:
        >>> graph = Graph.from_edges(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=5)
        >>> batch = EvalBatch(torch.tensor([[0], [2]]), torch.tensor([[[0, 0]], [[3, 4]]]), torch.tensor([[0], [4]]))
        >>> heuristic_results(batch, graph)["CommonNeighbors"].metrics["mrr"]
        1.0
    """
    found = {name: _scored(measure, batch, graph) for name, measure in heuristics_for(graph).items()}
    return dict(sorted(found.items(), key=lambda item: -item[1].metrics["mrr"]))


def heuristics_for(graph: Graph) -> dict[str, AbstractPairMeasure]:
    """What a model on a graph is held against, by name."""
    work = graph.num_nodes * (graph.num_edges // 2)
    walks = {name: measure for name, (measure, most) in OF_WALKS.items() if work <= most}
    return HEURISTICS | walks | (OF_FEATURES if graph.spec.num_features >= MANY_FEATURES else {})


def _scored(measure: AbstractPairMeasure, batch: EvalBatch, graph: Graph) -> Scored:
    """By the pure functions: metrics that accumulate would wait for other ranks, which do not take part."""

    def score(pairs: Tensor) -> Tensor:
        return measure.pairs(graph, *pairs)

    positive, random = score(batch.positives), score(batch.random_negatives)
    if batch.num_negatives is None:
        ranks = functional.ranks_shared(positive, random)
        hits = {f"hits@{k}": functional.hits_above(positive, random, k) for k in HITS}
    else:
        found = []
        for part in batch.parts(_CHUNK):
            assert part.negatives is not None
            own = score(part.negatives.flatten(1)).view(part.negatives.shape[1:])
            if part.repeated is not None:
                own = own.masked_fill(part.repeated, -torch.inf)
            found.append(functional.ranks(score(part.positives), own))
        ranks = torch.cat(found)
        hits = {f"hits@{k}": functional.hits_at(ranks, k) for k in HITS}
    values = {
        "mrr": functional.mean_reciprocal_rank(ranks),
        **hits,
        "auc": functional.auc(positive, random),
        "ap": functional.average_precision(positive, random),
    }
    return Scored({name: float(value) for name, value in values.items()}, ranks.numpy())


# Intervals


def bootstrap_interval(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean; the same seed gives the same interval.

    Args:
        values: ``(m,)``, one or more; fewer are drawn where there are more than 100,000 of them.
        resamples: how many samples of as many values are drawn.
        seed: of the draws.

    Example:
        >>> bootstrap_interval(np.full(9, 0.5))
        (0.5, 0.5)
    """
    from scipy.stats import bootstrap  # takes a second to import, and most runs do not test

    if len(values) < 2 or np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    draws = max(100, min(resamples, _MOST_DRAWS // len(values)))
    drawn = bootstrap(
        (values,),
        np.mean,
        n_resamples=draws,
        batch=max(1, _CHUNK // len(values)),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


# Words


@dataclass(frozen=True)
class Rival:
    """Another scorer of the same edges.

    Args:
        name: what it is called.
        mrr: its MRR.
        ahead: 95 % interval of how far the model's MRR is above it, edge by edge.
    """

    name: str
    mrr: float
    ahead: tuple[float, float]


def recommendation(
    mrr: float,
    interval: tuple[float, float],
    chance_mrr: float,
    rival: Rival | None = None,
    system: str = "Plain",
    plain_mrr: float | None = None,
) -> str:
    """What to do with a model, in a few sentences.

    Args:
        mrr: its MRR on test edges.
        interval: the MRR's interval over test edges.
        chance_mrr: the MRR of chance.
        rival: the best heuristic, or None where none was tried.
        system: the system's class: ``MeBNS``, ``Plain``, ``Heuristic``, ...
        plain_mrr: the MRR of the plain control, or None where there is none.

    Example:
        >>> print(recommendation(0.25, (0.22, 0.28), 0.01, Rival("AdamicAdar", 0.2, (0.02, 0.08))))
        Better than the best heuristic, AdamicAdar (MRR 20.0 %), by 2.0 to 8.0 points.
    """
    if interval[0] <= chance_mrr:
        better = f" Without training {rival.name} has {_percent(rival.mrr)}." if rival and rival.ahead[1] < 0 else ""
        return f"No better than chance (MRR {_percent(chance_mrr)}): do not use this model.{better}"
    said = []
    if system == "Heuristic":
        said.append("A heuristic, which learns nothing: what a model has to beat.")
    elif rival is not None:
        said.append(_beside_heuristic(mrr, rival))
    if system == "MeBNS":
        said.append(_beside_plain(interval, plain_mrr))
    return " ".join(said) or "Better than chance; no heuristic was tried beside it."


def _beside_heuristic(mrr: float, rival: Rival) -> str:
    low, high = rival.ahead
    name = f"{rival.name} (MRR {_percent(rival.mrr)})"
    if low > 0:
        return f"Better than the best heuristic, {name}, by {100 * low:.1f} to {100 * high:.1f} points."
    measure = "PathsOfLengthThree" if rival.name == COUNTED else rival.name
    more = " --model.measure.degree_normalized=false" if rival.name == COUNTED else ""
    use = f"`--model=Heuristic --model.measure={measure}{more}`"
    if high < 0:
        return (
            f"A heuristic is better, without training: {name}, by {-100 * high:.1f} to {-100 * low:.1f} points: {use}."
        )
    return f"No better than a heuristic: {name} cannot be told apart on these test edges, and needs no training: {use}."


def _beside_plain(interval: tuple[float, float], plain_mrr: float | None) -> str:
    if plain_mrr is None:
        return "Whether MeBNS helps is not known: test a run of the same data, seed and sampler with `--model=Plain`."
    plain = f"the plain control has MRR {_percent(plain_mrr)}"
    if plain_mrr > interval[1]:
        return f"MeBNS does not help here, it is worse: {plain}. Use `--model=Plain`."
    if plain_mrr >= interval[0]:
        return f"Whether MeBNS helps here cannot be told: {plain}, within this run's interval. More seeds would tell."
    return f"MeBNS helps here: {plain}, below this run's interval. It is one seed; try others before relying on it."


def val_and_test(val_mrr: float | None, test_mrr: float, negatives: int | None, test_edges: int | None) -> str:
    """Why the MRR of validation and that of test are not the same number; nothing where they are.

    Args:
        val_mrr: at the epoch that was chosen, or None where it is not known.
        test_mrr: that of test.
        negatives: how many negatives validation edges have in all, or None where nobody has counted.
        test_edges: how many of them are test edges, which validation must not know.

    Example:
        >>> val_and_test(None, 0.3, None, None)
        ''
    """
    if val_mrr is None or abs(val_mrr - test_mrr) < _SAME:
        return ""
    told = f"Validation MRR {_percent(val_mrr)}, test {_percent(test_mrr)}: they are of different edges"
    if not negatives or test_edges is None:
        return f"{told}."
    if not test_edges:
        return f"{told}; no validation negative is a test edge."
    share = _percent(test_edges / negatives)
    return (
        f"{told}, and {test_edges:,} of the {negatives:,} validation negatives ({share}) are test edges, which "
        "validation must not know: a good model ranks them high and loses there, not in test."
    )


def of_negatives(asked: int, distinct: float, fewest: int, shared: bool) -> str:
    """How many negatives an edge is ranked against, and how many of them are distinct.

    Args:
        asked: n, of each edge or of all.
        distinct: how many pairs are distinct, mean over edges.
        fewest: the same of the edge with fewest.
        shared: whether all edges share them.

    Example:
        >>> of_negatives(500, 500, 500, False)
        'Each edge is ranked against 500 negatives, all distinct.'
    """
    who = "All edges are" if shared else "Each edge is"
    if fewest >= asked:
        return f"{who} ranked against {asked:,} negatives, all distinct."
    if shared:
        return f"{who} ranked against {asked:,} negatives, {fewest:,} of them distinct."
    return (
        f"{who} ranked against {asked:,} negatives, of which {distinct:,.1f} are distinct on average, {fewest:,} at "
        "fewest: those that are repeated for want of others count once, and chance is reckoned so."
    )


def of_all_nodes(distinct: float, fewest: int) -> str:
    """As :func:`of_negatives`, where an edge is ranked against every node in place of either end.

    Example:
        >>> of_all_nodes(951.5, 9)
        'Each edge is ranked against every node in place of either end, but known edges: 951.5 on average, 9 at fewest.'
    """
    return (
        "Each edge is ranked against every node in place of either end, but known edges: "
        f"{distinct:,.1f} on average, {fewest:,} at fewest."
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
