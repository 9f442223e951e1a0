"""Evaluation negatives that are made once and kept in a file, found again by what they were made from."""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mebns_pl.datasets.places import cache_folder
from mebns_pl.evaluation.negatives import AbstractEvalNegatives
from mebns_pl.files import write_atomically
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key

log = logging.getLogger(__name__)

_CHECKSUM = 16  # bytes
_FORMAT = "negatives 1"  # changed with the generators, so that files of older ones are not taken


@dataclass(frozen=True)
class CachedNegatives(AbstractEvalNegatives):
    """Keeps what another generator makes in a file whose name is a digest of all that it is made from.

    These are the training graph and its features, the held-out edges, the known edges, the generator with its
    parameters, and the key of its draws. A file that is damaged is noticed by a checksum, told in the log, and made
    anew. Files appear whole or not at all, so that several processes can share a folder.

    Args:
        negatives: the generator; its parameters are its attributes.
        folder: where files are kept; None takes ``negatives`` in :func:`~mebns_pl.datasets.places.cache_folder`.

    Example:
        >>> import tempfile
        >>> from mebns_pl.evaluation.negatives import RandomNegatives
        >>> edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> graph = Graph.from_edges(edges[:, :2], num_nodes=6)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cached = CachedNegatives(RandomNegatives(4), folder)
        ...     first = cached.generate(edges[:, 2:], graph, edges, Key(0, "docs"))
        ...     again = cached.generate(edges[:, 2:], graph, edges, Key(0, "docs"))
        ...     len(list(Path(folder).iterdir())), bool((first == again).all())
        (1, True)
    """

    negatives: AbstractEvalNegatives
    folder: str | Path | None = None

    def generate(self, positives: Tensor, graph: Graph, known_edges: Tensor, key: Key) -> Tensor:
        parts = [describe(self.negatives), repr(tuple(key)), positives, known_edges, *graph_parts(graph)]

        def build() -> dict[str, Tensor]:
            return {"negatives": self.negatives.generate(positives, graph, known_edges, key)}

        return cached(parts, build, self.folder)["negatives"]


def cached(
    parts: Iterable[str | Tensor], build: Callable[[], dict[str, Tensor]], folder: str | Path | None = None
) -> dict[str, Tensor]:
    """What ``build`` makes, from the file of its digest if that is there and sound.

    Args:
        parts: all that the result depends on: texts and tensors.
        build: makes int64 tensors by name.
        folder: where files are kept; None takes ``negatives`` in the cache folder.
    """
    path = Path(folder or cache_folder() / "negatives") / f"{digest(parts)}.cache"
    if path.is_file():
        try:
            return _read(path)
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            log.warning("%s: damaged (%s); its negatives are made anew", path, error)
    made = build()
    try:
        _write(path, made)
    except OSError as error:
        log.warning("%s: cannot be written (%s); its negatives will be made again next time", path, error)
    return made


def digest(parts: Iterable[str | Tensor]) -> str:
    """32 hexadecimal digits that name texts and tensors with their types and shapes (BLAKE2b)."""
    found = hashlib.blake2b(_FORMAT.encode(), digest_size=16)
    for part in parts:
        array = np.frombuffer(part.encode(), np.uint8) if isinstance(part, str) else part.contiguous().numpy()
        found.update(f"{type(part).__name__} {array.dtype} {array.shape}".encode())
        found.update(array.reshape(-1).view(np.uint8).data)  # no copy: arrays may be larger than memory
    return found.hexdigest()


def describe(value: object) -> str:
    """A text that tells a generator, its parameters and those of its parts."""
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(describe(item) for item in value)}]"
    inner = ", ".join(f"{name}={describe(item)}" for name, item in sorted(vars(value).items()))
    return f"{type(value).__module__}.{type(value).__qualname__}({inner})"


def graph_parts(graph: Graph) -> list[str | Tensor]:
    """What a graph is made of, for :func:`digest`."""
    parts: list[str | Tensor] = [str(graph.num_nodes), graph.edge_index]
    if isinstance(graph.x, Features):
        matrix = graph.x.matrix
        parts += [str(tuple(matrix.shape)), matrix.crow_indices(), matrix.col_indices(), matrix.values()]
    elif graph.x is not None:
        parts.append(graph.x)
    if graph.types is not None:
        parts += ["types", graph.types.kind]
    return parts


def _checksum(contents: bytes) -> bytes:
    return hashlib.blake2b(contents, digest_size=_CHECKSUM).digest()


def _read(path: Path) -> dict[str, Tensor]:
    """The checksum comes first in the file and is looked at first: nothing of a damaged file is parsed."""
    raw = path.read_bytes()
    if raw[:_CHECKSUM] != _checksum(raw[_CHECKSUM:]):
        raise ValueError(f"the checksum does not fit its {len(raw):,} bytes")
    with np.load(io.BytesIO(raw[_CHECKSUM:]), allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name].astype(np.int64)) for name in file.files}


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    arrays = {}
    for name, tensor in tensors.items():
        small = tensor.numel() == 0 or int(tensor.abs().max()) < 2**31
        arrays[name] = tensor.numpy().astype(np.int32 if small else np.int64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    contents = buffer.getvalue()
    write_atomically(path, _checksum(contents) + contents)
