"""The splits that published results are measured on, with the negatives that belong to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mebns_pl.datasets.places import data_folders, looked_in
from mebns_pl.datasets.readers import ogb
from mebns_pl.datasets.readers.arrays import Archive
from mebns_pl.datasets.readers.checks import check_pairs
from mebns_pl.datasets.readers.pairs import read_pairs
from mebns_pl.errors import DataError
from mebns_pl.types import EdgeSplit

HEART = {"cora": 2708, "citeseer": 3327, "pubmed": 19717}
"""Graphs with a fixed split of HeaRT's, and their numbers of nodes."""
NAMES = (*HEART, *ogb.NAMES)


@dataclass(frozen=True)
class OfficialSplit:
    """A published split. Positives stand in the files' order; those that hard negatives belong to keep their direction.

    Args:
        name: name of the graph.
        num_nodes: N.
        train: ``(2, n)`` int64, training edges.
        val: ``(2, p)`` int64, validation edges.
        test: ``(2, q)`` int64, test edges.
        val_negatives: ``(2, m)`` int64, pairs that every validation edge is ranked against, or None.
        test_negatives: the same for the test edges.
        val_hard: ``(2, p, k)`` int64, pairs that each validation edge is ranked against, row by row, or None.
        test_hard: ``(2, q, k)``, the same for the test edges.
        train_negatives: ``(2, n)`` int64, non-edges released for training, or None.
        metric: what the benchmark selects and reports by, as ``hits@20``; None where it leaves that open.
        notes: what was done on the way, for people to read.

    Example:
        >>> pair = torch.tensor([[0], [1]])
        >>> OfficialSplit("tiny", 4, train=pair, val=pair + 1, test=pair + 2).edge_split().test.tolist()
        [[2], [3]]
    """

    name: str
    num_nodes: int
    train: Tensor
    val: Tensor
    test: Tensor
    val_negatives: Tensor | None = None
    test_negatives: Tensor | None = None
    val_hard: Tensor | None = None
    test_hard: Tensor | None = None
    train_negatives: Tensor | None = None
    metric: str | None = None
    notes: list[str] = field(default_factory=list)

    def edge_split(self) -> EdgeSplit:
        """The same edges, in the same order, each with ``source < target``; no meta edges are set apart."""
        train, val, test = (part.sort(dim=0).values for part in (self.train, self.val, self.test))
        return EdgeSplit(train=train, meta=train[:, :0], val=val, test=test)


def load_official_split(name: str, root: str | Path | None = None) -> OfficialSplit:
    """Reads the published split of a graph.

    - ``cora``, ``citeseer``, ``pubmed``: the fixed split of HeaRT (Li et al., "Evaluating graph neural networks for
      link prediction", NeurIPS 2023) from ``root/heart/<name>``: ``{train,valid,test}_{pos,neg}.txt``, and hard
      negatives from ``heart_{valid,test}_samples.npz`` where they are there.
    - ``ogbl-...``: the split of the Open Graph Benchmark (Hu et al., NeurIPS 2020), ``ogbl-ddi`` from
      ``root/ogb/ogbl_ddi.npz`` if it is there, otherwise through the ``ogb`` package.

    Args:
        name: one of ``NAMES``.
        root: folder with data files; None takes the environment variable ``MEBNS_DATA``.

    Raises:
        DataError: no such split; files that are absent or broken, or parts of a split that overlap.
    """
    if name not in NAMES:
        raise DataError(f"name: no official split of {name!r}; there are those of {', '.join(NAMES)}")
    split = _read_heart(name, root) if name in HEART else _read_ogb(name, root)
    overlap = _check_parts(split)
    if overlap and name in (*HEART, "ogbl-ddi"):
        raise DataError(f"official split of {name}: {overlap[0]}; allowed are parts that share no edge")
    split.notes.extend(overlap)
    return split


def _read_heart(name: str, root: str | Path | None) -> OfficialSplit:
    places = [folder / "heart" / name for folder in data_folders(root)]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise DataError(f"root: got {root!r}; the HeaRT split of {name} {looked_in(places)}")
    size = HEART[name]
    train, val, test = (read_pairs(folder / f"{part}_pos.txt", size) for part in ogb.PARTS)
    train_negatives, val_negatives, test_negatives = (
        read_pairs(folder / f"{part}_neg.txt", size) for part in ogb.PARTS
    )
    val_hard = _read_hard(folder / "heart_valid_samples.npz", val, size)
    test_hard = _read_hard(folder / "heart_test_samples.npz", test, size)
    loops = train[0] == train[1]
    train, notes = train[:, ~loops], [f"read from {folder}"]
    if bool(loops.any()):
        notes.append(f"{int(loops.sum())} self-loops, which list isolated nodes, dropped from train_pos.txt")
    return OfficialSplit(
        name,
        size,
        train,
        val,
        test,
        val_negatives,
        test_negatives,
        val_hard,
        test_hard,
        train_negatives,
        "mrr",
        notes,
    )


def _read_hard(path: Path, positives: Tensor, num_nodes: int) -> Tensor | None:
    """``(2, p, k)``: hard negatives, one row for each positive; None where the file is absent."""
    if not path.is_file():
        return None
    with Archive(path) as archive:
        samples, where = archive["samples"], archive.at("samples")
    if samples.ndim != 3 or samples.shape[0] != positives.shape[1] or samples.shape[2] != 2 or not samples.shape[1]:
        raise DataError(
            f"{where}: got shape {samples.shape}; allowed is ({positives.shape[1]}, k, 2), "
            f"one row for each line of the positives"
        )
    pairs = check_pairs(samples.reshape(-1, 2), num_nodes, where).view(2, *samples.shape[:2])
    # In each row the first half keeps the positive's source and the second its target
    half = samples.shape[1] // 2
    kept = (pairs[0, :, :half] == positives[0, :, None]).all(1) & (pairs[1, :, half:] == positives[1, :, None]).all(1)
    if not bool(kept.all()):
        row = int((~kept).nonzero()[0, 0])
        raise DataError(
            f"{where}, row {row}: its pairs do not keep the ends of {positives[:, row].tolist()}; "
            "allowed are half with its source and half with its target, in the positives' order"
        )
    return pairs


def _read_ogb(name: str, root: str | Path | None) -> OfficialSplit:
    parts = ogb.read_split(name, root)
    train, val, test = (parts.edges(part) for part in ogb.PARTS)
    train_negatives, val_negatives, test_negatives = (parts.negatives(part) for part in ogb.PARTS)
    _, val_hard, test_hard = (parts.false_targets(part) for part in ogb.PARTS)
    metric, notes, size = ogb.METRICS[name], [f"read from {parts.place}"], parts.num_nodes
    return OfficialSplit(
        name, size, train, val, test, val_negatives, test_negatives, val_hard, test_hard, train_negatives, metric, notes
    )


def _check_parts(split: OfficialSplit) -> list[str]:
    """Which parts share edges, as those of ogbl-collab do, where people meet again in later years."""
    keys = {}
    for part, pairs in (("train", split.train), ("valid", split.val), ("test", split.test)):
        if not pairs.shape[1]:
            raise DataError(f"official split of {split.name}: the {part} part has no edge; at least 1 is needed")
        keys[part] = torch.unique(pairs.min(dim=0).values * split.num_nodes + pairs.max(dim=0).values)
    return [
        f"{count:,} edges are in both {one} and {other}"
        for one, other in (("train", "valid"), ("train", "test"), ("valid", "test"))
        if (count := int(torch.isin(keys[other], keys[one]).sum()))
    ]
