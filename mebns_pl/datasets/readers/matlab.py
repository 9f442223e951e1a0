"""MATLAB files of version 5 (MATLAB 5 to 7.2), with every length checked: SciPy's reader crashes on broken files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse

from mebns_pl.datasets.limits import check_size, limit
from mebns_pl.datasets.readers.checks import check_csr
from mebns_pl.datasets.readers.contents import read_bytes, refusing
from mebns_pl.errors import DataError

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_SPARSE, _DENSE = 5, range(6, 16)
_COMPLEX = 0x0800


class _Element(NamedTuple):
    """A tagged piece of data."""

    kind: int
    data: bytes


def read_matlab_matrix(path: Path, key: str) -> scipy.sparse.csr_matrix:
    """Reads one real matrix, sparse or dense.

    Args:
        path: the file.
        key: name of the matrix.

    Returns:
        The matrix as CSR, its indices in range and its values finite.

    Raises:
        DataError: a file that is missing, damaged, or of another version; no such matrix; one that is not real.
    """
    content = read_bytes(path, "bytes of arrays")
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise DataError(f"{path}: no MATLAB file of version 5 (MATLAB 5 to 7.2), or one that is cut off")
    order = "<" if content[126:128] == b"IM" else ">"
    names = []
    with refusing(path, (zlib.error, struct.error, ValueError, IndexError), "cannot be read as a MATLAB file"):
        for element in _elements(content[_HEADER:], order):
            if element.kind == _COMPRESSED:
                unpacker = zlib.decompressobj()
                unpacked = unpacker.decompress(element.data, limit("bytes of arrays") + 1)
                check_size(f"{path}, unpacked", len(unpacked), "bytes of arrays", least=True)
                if not unpacker.eof:
                    raise ValueError("packed data are cut off")
                element = _elements(unpacked, order)[0]
            if element.kind != _MATRIX:
                raise ValueError(f"an element of kind {element.kind}, where a matrix is expected")
            parts = _elements(element.data, order)
            names.append(parts[2].data.decode("ascii"))
            if names[-1] == key:
                return _matrix(parts, order, f"{path}, key {key!r}")
    raise DataError(f"{path}: no matrix {key!r}; it has {', '.join(names) or 'none'}")


def _elements(data: bytes, order: str) -> list[_Element]:
    """All elements, one after another; each begins at a multiple of 8 bytes, but packed ones follow at once."""
    elements, place = [], 0
    while place < len(data):
        (word,) = struct.unpack_from(f"{order}I", data, place)
        if word >> 16:  # a small one: its length and data stand within the tag
            kind, size, start = word & 0xFFFF, word >> 16, place + 4
            end = place + 8
        else:
            kind, size = struct.unpack_from(f"{order}II", data, place)
            start = place + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > min(end, len(data)):
            raise ValueError(f"{size:,} bytes are announced at byte {place:,}, and {len(data) - start:,} are there")
        elements.append(_Element(kind, data[start : start + size]))
        place = end
    if not elements:
        raise ValueError("there are no data")
    return elements


def _numbers(element: _Element, order: str) -> np.ndarray:
    if element.kind not in _TYPES:
        raise ValueError(f"numbers of kind {element.kind}; allowed are {', '.join(map(str, _TYPES))}")
    kind = _TYPES[element.kind]
    return np.frombuffer(element.data, dtype=np.dtype(order + kind)).astype(kind)


def _matrix(parts: list[_Element], order: str, where: str) -> scipy.sparse.csr_matrix:
    flags = int(_numbers(parts[0], order)[0])
    shape = _numbers(parts[1], order).astype(np.int64)
    kind = flags & 0xFF
    if flags & _COMPLEX or not (kind == _SPARSE or kind in _DENSE):
        raise DataError(f"{where}: got class {kind}, flags {flags >> 8:#x}; allowed is a matrix of real numbers")
    if len(shape) != 2 or (shape < 1).any():
        raise DataError(f"{where}: got dimensions {shape.tolist()[:8]}; allowed are two, of 1 or more")
    if kind in _DENSE:
        values = _numbers(parts[3], order)
        if values.size != int(shape[0]) * int(shape[1]):
            raise DataError(f"{where}: got {values.size:,} numbers; allowed are {shape[0]:,} x {shape[1]:,}")
        matrix = scipy.sparse.csr_matrix(values.reshape(tuple(shape), order="F"))
        return check_csr((matrix.data, matrix.indices, matrix.indptr, shape), where)
    rows, starts, values = (_numbers(part, order) for part in parts[3:6])
    # MATLAB's columns are the rows of the transposed matrix; room that is not used may follow the entries
    count = int(starts[-1]) if len(starts) else 0
    if count < 0 or count > min(len(rows), len(values)):
        raise DataError(f"{where}: got {len(rows):,} rows and {len(values):,} values; {count:,} of each are announced")
    matrix = check_csr((values[:count], rows[:count], starts, shape[::-1]), where).T.tocsr()
    matrix.sum_duplicates()
    return matrix
