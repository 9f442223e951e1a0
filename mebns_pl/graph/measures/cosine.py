"""How alike two nodes' features are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mebns_pl.graph.csr import Graph
from mebns_pl.graph.measures.abstract import AbstractMeasure, AbstractPairMeasure
from mebns_pl.graph.measures.products import Csr, pair_products, product_top
from mebns_pl.graph.measures.rows import Block, top_lists
from mebns_pl.graph.sparse import Features
from mebns_pl.progress import in_threads, slices

_ROUND_OFF = 1e-9  # cosines up to this are rounding errors of a zero
_BLOCK = 2**22  # entries of a block of dense scores, 32 MiB in float64


class FeatureCosine(AbstractMeasure, AbstractPairMeasure):
    """The cosine of the angle between two nodes' features, dense or sparse; nodes without features have 0 with all.

    So have nodes with a feature that is no finite number.

    Raises (in ``top`` and ``pairs``):
        ValueError: the graph has no features.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
        >>> graph = Graph.from_edges(torch.tensor([[0], [1]]), num_nodes=3, x=x)
        >>> FeatureCosine().top(graph, torch.tensor([0]), k=2)
        (tensor([[ 1, -1]]), tensor([[0.7071, 0.0000]]))
    """

    def top(self, graph: Graph, nodes: Tensor, k: int, exclude: Graph | None = None) -> tuple[Tensor, Tensor]:
        x = _features(graph)
        if isinstance(x, Features):
            rows, columns, scale = _sparse(x.matrix), _sparse(x.transposed), _inverse_norms(x)
            with np.errstate(invalid="ignore"):  # infinite features make NaN, which is above no limit
                left = (rows[0], rows[1], rows[2] * scale.repeat(np.diff(rows[0])))
                right = (columns[0], columns[1], columns[2] * scale[columns[1]])
            return product_top(left, right, _ROUND_OFF, graph, nodes, k, exclude)
        unit = _unit_rows(x)

        def dense_rows(block: np.ndarray) -> Iterator[Block]:
            size = max(1, _BLOCK // len(unit))
            for start in range(0, len(block), size):
                part = slice(start, start + size)
                # float64 products rounded to float32: how the block is cut shows in no score
                scores = (unit[block[part]] @ unit.T).astype(np.float32)
                row, column = (scores > _ROUND_OFF).nonzero()
                yield part, np.searchsorted(row, np.arange(len(scores) + 1)), column, scores[row, column]

        return top_lists(dense_rows, graph, nodes, k, exclude)

    def pairs(self, graph: Graph, source: Tensor, target: Tensor) -> Tensor:
        """The cosines ``(m,)`` float32 of given pairs. Cost: the non-zero features of both for each."""
        x = _features(graph)
        if isinstance(x, Features):
            rows, scale = _sparse(x.matrix), torch.from_numpy(_inverse_norms(x))
            cosine = pair_products(rows, rows, source, target) * (scale[source] * scale[target])
        else:
            unit, ends = _unit_rows(x), (source.numpy(), target.numpy())
            cosine = torch.empty(len(source), dtype=torch.float64)

            def dense(part: slice) -> None:
                size = max(1, _BLOCK // max(1, unit.shape[1]))
                for start in range(part.start, part.stop, size):
                    block = slice(start, min(start + size, part.stop))
                    cosine.numpy()[block] = (unit[ends[0][block]] * unit[ends[1][block]]).sum(axis=1)

            in_threads(dense, slices(len(cosine)))
        return cosine.where(cosine.abs() > _ROUND_OFF, 0.0).float()  # NaN is not above


def _features(graph: Graph) -> Tensor | Features:
    if graph.x is None:
        raise ValueError("graph: it has no node features (x is None); FeatureCosine needs them")
    return graph.x


def _unit_rows(x: Tensor) -> np.ndarray:
    """``(N, F)`` float64: rows of length 1, or of zeros."""
    return torch.nn.functional.normalize(x.double(), dim=1, eps=1e-300).numpy()


def _sparse(matrix: Tensor) -> Csr:
    indptr, indices, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    return indptr.long().numpy(), indices.long().numpy(), values.double().numpy()


def _inverse_norms(x: Features) -> np.ndarray:
    """``(N,)``: one over the 2-norm of each row, 0 for a row of zeros."""
    indptr, _, values = _sparse(x.matrix)
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    norm = np.sqrt(np.bincount(row, weights=values**2, minlength=len(indptr) - 1))
    return np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)
