"""What became of the probe of migration in a run: scores by epoch, picks, drops and weights, in one file."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mebns_pl.analysis.migration import hard_set
from mebns_pl.datasets.readers.arrays import Archive
from mebns_pl.errors import DataError
from mebns_pl.files import write_atomically

NAME = "migration.npz"
"""The file in a run's folder."""
FORMAT = 1
"""Counted up when parts of the file change."""
VALIDATION, TEST = 1, 2
"""What ``held_out`` holds of an edge of validation, and of test; 0 of any other pair."""
COUNTS = ("drawn", "dropped", "picked")
_ARRAYS = {
    "pairs": "i8", "epochs": "i8", "student": "f4", "teacher": "f4", "counts": "i4", "weights": "f4",
    "held_out": "i1", "num_common": "i8", "common": "i8", "nodes": "i8", "degree": "i8",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What a history is of.

    Args:
        graph: the graph's name.
        system: the system's class.
        share: rho, the share of the probe that counts as hard.
        threshold: tau on the probability.
        warmup: epochs in which the system trains like its sampler alone.
        sampler: the classes of its proposal and its selector.
        seed: of the run.

    Example:
        >>> Setting("air_routes", "Plain").warmup
        0
    """

    graph: str
    system: str
    share: float = 0.2
    threshold: float = 0.5
    warmup: int = 0
    sampler: tuple[str, str] = ("UniformProposal", "FirstSelector")
    seed: int = 0


@dataclass(frozen=True)
class ProbeHistory:
    """M pairs of the probe over T snapshots, each after an epoch.

    Args:
        setting: what it is of.
        pairs: ``(2, M)`` int64.
        epochs: ``(T,)`` int64, from 0.
        student: ``(T, M)`` float32 logits.
        teacher: ``(T, M)`` float32 logits, or ``(0, M)`` of a run without a teacher.
        counts: ``(T, 3, M)`` int32: in how many steps since the snapshot before a pair was drawn as a legal candidate,
            dropped by the filter, picked to learn from.
        weights: ``(T, M)`` float32, the sum of its weights where it was picked; weights are 1 on average.
        held_out: ``(M,)`` int8, for analysis alone: ``VALIDATION`` or ``TEST`` of a held-out edge, else 0.
        num_common: ``(M,)`` int64, common neighbours in the training graph.
        common: ``(M, S)`` int64, those of them with the fewest links; -1 where there are fewer.
        nodes: ``(n,)`` int64, the nodes that occur, ascending.
        degree: ``(n,)`` int64, theirs in the training graph.
        names: n names.
        types: n kinds, or None.

    Example:
        >>> toy_history().crossings.tolist()
        [0, 1, 2, 1]
    """

    setting: Setting
    pairs: np.ndarray
    epochs: np.ndarray
    student: np.ndarray
    teacher: np.ndarray
    counts: np.ndarray
    weights: np.ndarray
    held_out: np.ndarray
    num_common: np.ndarray
    common: np.ndarray
    nodes: np.ndarray
    degree: np.ndarray
    names: list[str]
    types: list[str] | None = None

    @property
    def num_pairs(self) -> int:
        """M."""
        return int(self.pairs.shape[1])

    @cached_property
    def hard(self) -> np.ndarray:
        """``(T, M)`` bool: the hard set after each snapshot's epoch, as the monitor has it."""
        return np.stack([hard_set(torch.from_numpy(row), self.setting.share).numpy() for row in self.student])

    @cached_property
    def border(self) -> np.ndarray:
        """``(T,)`` float32: the lowest logit in the hard set."""
        lowest: np.ndarray = np.where(self.hard, self.student, np.inf).min(axis=1)
        return lowest.astype(np.float32)

    @cached_property
    def above(self) -> np.ndarray:
        """``(T, M)`` bool: whose probability is above the threshold."""
        probabilities: np.ndarray = torch.from_numpy(self.student).sigmoid().numpy()
        return probabilities > self.setting.threshold

    @cached_property
    def crossings(self) -> np.ndarray:
        """``(M,)`` int64: how often each pair has entered or left the hard set, from snapshot to snapshot."""
        crossings: np.ndarray = (self.hard[1:] != self.hard[:-1]).sum(axis=0)
        return crossings

    @cached_property
    def places(self) -> np.ndarray:
        """``(2, M)`` int64: where the ends of the pairs stand among ``nodes``."""
        return np.searchsorted(self.nodes, self.pairs)

    def check(self, name: str | Path) -> None:
        """Makes sure that the parts go together.

        Args:
            name: of the file, for the message.

        Raises:
            DataError: they do not.
        """
        snapshots, pairs, nodes = len(self.epochs), self.num_pairs, len(self.nodes)
        expected = {
            "pairs": (2, pairs),
            "student": (snapshots, pairs),
            "teacher": (len(self.teacher) and snapshots, pairs),
            "counts": (snapshots, len(COUNTS), pairs),
            "weights": (snapshots, pairs),
            "held_out": (pairs,),
            "num_common": (pairs,),
            "common": (pairs, self.common.shape[-1]),
            "degree": (nodes,),
        }
        for part, shape in expected.items():
            found = getattr(self, part).shape
            if found != shape:
                raise DataError(f"{name}: its {part} have the shape {found}; {shape} goes with the rest")
        if not snapshots or not pairs or (np.diff(self.epochs) <= 0).any() or (np.diff(self.nodes) <= 0).any():
            raise DataError(f"{name}: no snapshots or pairs in it, or epochs or nodes out of order")
        known = np.isin(self.pairs, self.nodes).all() and np.isin(self.common, [*self.nodes, -1]).all()
        if not known or len(self.names) != nodes or (self.types is not None and len(self.types) != nodes):
            raise DataError(f"{name}: names or nodes are missing")


def write_history(history: ProbeHistory, path: str | Path) -> None:
    """Writes a history, packed.

    Raises:
        OSError: it cannot be written.
    """
    words = {"format": FORMAT, **asdict(history.setting), "names": history.names, "types": history.types}
    arrays: dict[str, Any] = {name: getattr(history, name) for name in _ARRAYS}
    arrays["words"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_atomically(path, packed.getvalue())


def read_history(path: str | Path) -> ProbeHistory:
    """What :func:`write_history` has written.

    Raises:
        DataError: no such file, or another one; the message says what is wrong.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), NAME)
        >>> write_history(toy_history(), path)
        >>> read_history(path).names
        ['a', 'b', 'c', 'd', 'e']
    """
    with Archive(path) as archive:
        missing = {"words", *_ARRAYS} - set(archive.keys)
        if missing:
            raise DataError(f"{path}: no history of a probe: {', '.join(sorted(missing))} missing")
        found = {name: archive[name] for name in ("words", *_ARRAYS)}
    wrong = [name for name, kind in _ARRAYS.items() if found[name].dtype != np.dtype(kind)]
    try:
        words = json.loads(found.pop("words").tobytes())
        number, names, types = words.pop("format"), words.pop("names"), words.pop("types")
        setting = Setting(**{**words, "sampler": tuple(words["sampler"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: no history of a probe: {error}") from error
    if number != FORMAT or wrong:
        raise DataError(
            f"{path}: got format {number!r}{' with other numbers' * bool(wrong)}; this version has {FORMAT}"
        )
    history = ProbeHistory(setting, names=names, types=types, **found)
    history.check(path)
    return history


def toy_history(system: str = "Plain", warmup: int = 0) -> ProbeHistory:
    """Four pairs of five nodes over three epochs, for examples; the two hardest pairs make the hard set."""
    student = np.array([[4, 3, 2, 1], [4, 2, 3, 1], [4, 1, 2, 3]], np.float32)
    counts = np.zeros((3, 3, 4), np.int32)
    counts[1] = [[1, 2, 0, 1], [1, 0, 0, 0], [0, 2, 0, 0]]
    weights = np.zeros((3, 4), np.float32)
    weights[1, 1] = 1.5
    return ProbeHistory(
        Setting("toy", system, share=0.5, warmup=warmup),
        pairs=np.array([[0, 0, 1, 2], [1, 2, 3, 4]]),
        epochs=np.arange(3),
        student=student,
        teacher=student[:, ::-1].copy() if system == "MeBNS" else student[:0],
        counts=counts,
        weights=weights,
        held_out=np.array([0, TEST, 0, 0], np.int8),
        num_common=np.array([2, 0, 0, 0]),
        common=np.array([[3, 4], [-1, -1], [-1, -1], [-1, -1]]),
        nodes=np.arange(5),
        degree=np.full(5, 2),
        names=["a", "b", "c", "d", "e"],
    )
