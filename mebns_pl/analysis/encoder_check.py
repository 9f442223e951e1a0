"""What an encoder must keep to, each rule looked at on a small graph: for `mebns check`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import functional_call

from mebns_pl.graph.csr import Graph
from mebns_pl.keys import Key
from mebns_pl.models.encoders.abstract import AbstractEncoder

_KEY = Key(0, "check")
_NODES, _EDGES = 60, 150
_WITHIN = 1e-4
"""Relative; what another order of sums leaves in single precision is far below."""


@dataclass(frozen=True)
class Finding:
    """What a look at one rule has found.

    Args:
        rule: what was looked at.
        good: whether it is kept; None where it is only told.
        told: what was found, and what to change.
    """

    rule: str
    good: bool | None
    told: str = ""


def look_at_encoder(make: Callable[[], AbstractEncoder], graph: Graph) -> Iterator[Finding]:
    """Looks at each rule in turn.

    Args:
        make: makes the encoder of ``graph``.
        graph: a graph like that of :func:`small_graph`.

    Example:
        >>> from mebns_pl.models.encoders.gcn import GCN
        >>> graph = small_graph()
        >>> [finding.rule for finding in look_at_encoder(lambda: GCN(graph.spec, 8), graph) if finding.good is False]
        []
    """
    encoder = make()
    z = encoder(graph)
    yield _shape(encoder, z)
    yield _generators(encoder, graph)
    yield _buffers(encoder, graph)
    yield _same_twice(encoder, graph)
    yield _dropout(encoder, graph)
    yield _left_out(encoder, make, graph)
    yield _relabelled(encoder, graph)
    yield _gradients(encoder, graph)
    yield _second_derivatives(encoder, graph)
    yield _cost(encoder, graph)


def small_graph(num_features: int = 8) -> Graph:
    """A random graph of 60 nodes with features, or without for 0."""
    generator = _KEY.child("graph").generator()
    pairs = torch.randint(_NODES, (2, 2 * _EDGES), generator=generator)
    pairs = pairs[:, pairs[0] != pairs[1]][:, :_EDGES]
    x = torch.randn(_NODES, num_features, generator=generator) if num_features else None
    return Graph.from_edges(pairs, _NODES, x)


def _shape(encoder: AbstractEncoder, z: Tensor) -> Finding:
    good = tuple(z.shape) == (_NODES, encoder.out_channels) and bool(z.isfinite().all())
    told = f"out_channels = {encoder.out_channels}"
    return Finding("embeddings (N, out_channels), finite", good, told if good else f"{told}, got {tuple(z.shape)}")


def _generators(encoder: AbstractEncoder, graph: Graph) -> Finding:
    before = torch.get_rng_state()
    encoder(graph)
    encoder(graph, _KEY)
    good = torch.equal(torch.get_rng_state(), before)
    return Finding(
        "global generators untouched", good, "" if good else "draw by the key alone: KeyedDropout, key.generator()"
    )


def _buffers(encoder: AbstractEncoder, graph: Graph) -> Finding:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder(graph, _KEY)
    changed = [name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])]
    told = f"{', '.join(changed)}: no running statistics (LayerNorm in place of BatchNorm)" if changed else ""
    return Finding("forward writes no parameters or buffers", not changed, told)


def _same_twice(encoder: AbstractEncoder, graph: Graph) -> Finding:
    first = encoder(graph), encoder(graph, _KEY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        torch.rand(7)
        again = encoder(graph), encoder(graph, _KEY)
    named = {"without a key": 0, "with a key": 1}
    wrong = [name for name, place in named.items() if not torch.equal(first[place], again[place])]
    told = f"{' and '.join(wrong)} another draw changes it: the lookahead would see another student than the real step"
    return Finding("the same key, the same embeddings", not wrong, told if wrong else "")


def _dropout(encoder: AbstractEncoder, graph: Graph) -> Finding:
    stochastic = not torch.equal(encoder(graph, _KEY), encoder(graph, _KEY.child("other")))
    if stochastic:
        return Finding("dropout", None, "another key gives other embeddings")
    return Finding(
        "dropout", None, "none: the meta set's passes then differ by dropped edges and masked features alone"
    )


def _left_out(encoder: AbstractEncoder, make: Callable[[], AbstractEncoder], graph: Graph) -> Finding:
    upper = graph.rows < graph.indices
    edges = torch.stack([graph.rows[upper], graph.indices[upper]])
    gone = edges[:, ::4]
    fresh = make()
    fresh.load_state_dict(encoder.state_dict())
    expected = fresh(Graph.from_edges(edges[:, torch.arange(edges.shape[1]) % 4 != 0], graph.num_nodes, graph.x))
    good = _close(encoder(graph.without(gone)), expected)
    told = "edges that a step leaves out are seen: use graph.edge_index or graph's sums, and keep nothing of a graph"
    return Finding("target edges stay unseen", good, "" if good else told)


def _relabelled(encoder: AbstractEncoder, graph: Graph) -> Finding:
    rule = "nodes in another order, the same embeddings"
    if graph.x is None:
        return Finding(rule, None, "not looked at: without features nodes have embeddings of their own")
    assert isinstance(graph.x, Tensor)
    order = torch.randperm(graph.num_nodes, generator=_KEY.child("order").generator())
    place = order.argsort()
    upper = graph.rows < graph.indices
    edges = place[torch.stack([graph.rows[upper], graph.indices[upper]])]
    good = _close(encoder(Graph.from_edges(edges, graph.num_nodes, graph.x[order])), encoder(graph)[order])
    told = "embeddings depend on the nodes' numbers: positions or tables of nodes cannot be used for new nodes"
    return Finding(rule, True if good else None, "" if good else told)


def _gradients(encoder: AbstractEncoder, graph: Graph) -> Finding:
    params = dict(encoder.named_parameters())
    if not params:
        return Finding("a gradient for every parameter", None, "no parameters")
    loss = encoder(graph, _KEY).square().sum()
    grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    unused = [name for name, grad in zip(params, grads, strict=True) if grad is None]
    told = f"{', '.join(unused)}: not used in forward, and never trained" if unused else ""
    return Finding("a gradient for every parameter", True if not unused else None, told)


def _second_derivatives(encoder: AbstractEncoder, graph: Graph) -> Finding:
    rule = "second derivatives"
    try:
        # The least of three: where one meets the kink of a ReLU, another does not
        error = min(_curvature_error(copy.deepcopy(encoder).double(), graph, _KEY.child(n)) for n in range(3))
    except (RuntimeError, NotImplementedError) as failure:
        told = " ".join(str(failure).split())[:200]
        return Finding(rule, False, f"{told}; the exact engines need them: take AlignmentEngine")
    good = error < 1e-4
    told = f"off by {error:.0e} from finite differences"
    return Finding(rule, good, told if good else f"{told}; no in-place writes, no custom backward without its own")


def _curvature_error(encoder: AbstractEncoder, graph: Graph, key: Key) -> float:
    """How far the product of the loss's Hessian with a direction is from central differences, relative.

    At weights that are drawn anew: none of them is 0.
    """
    x = graph.x
    graph = replace(graph, x=x.double() if isinstance(x, Tensor) else x)
    generator = key.generator()
    params = {name: torch.randn(p.shape, generator=generator).to(p) / 2 for name, p in encoder.named_parameters()}
    direction = {name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in params.items()}

    def gradient(size: float, create_graph: bool) -> tuple[list[Tensor], list[Tensor]]:
        values = {name: (p + size * direction[name]).requires_grad_() for name, p in params.items()}
        loss = functional_call(encoder, values, (graph, _KEY)).tanh().square().sum()
        leaves = list(values.values())
        return leaves, list(torch.autograd.grad(loss, leaves, create_graph=create_graph, materialize_grads=True))

    leaves, grads = gradient(0.0, create_graph=True)
    slope = torch.stack([(g * d).sum() for g, d in zip(grads, direction.values(), strict=True)]).sum()
    found = torch.autograd.grad(slope, leaves, materialize_grads=True)
    step = 1e-6
    pairs = zip(gradient(step, False)[1], gradient(-step, False)[1], strict=True)
    expected = [(up - down) / (2 * step) for up, down in pairs]
    off = max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))
    return off / max(1.0, *(float(part.abs().max()) for part in expected))


def _cost(encoder: AbstractEncoder, graph: Graph) -> Finding:
    seconds, kept = cost_of_step(encoder, graph)
    return Finding(
        "cost of a pass and its gradient here", None, f"{1000 * seconds:.1f} ms, {kept / 2**20:.2f} MiB kept"
    )


def cost_of_step(encoder: AbstractEncoder, graph: Graph, repeats: int = 5) -> tuple[float, int]:
    """Seconds of a pass with its gradient, the median of some, and bytes that are kept for the gradient.

    Example:
        >>> from mebns_pl.models.encoders.gcn import GCN
        >>> graph = small_graph()
        >>> cost_of_step(GCN(graph.spec, 8), graph)[1] > 60 * 8 * 4
        True
    """
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and tensor.layout == torch.strided:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        encoder(graph, _KEY).square().sum().backward()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        encoder(graph, _KEY).square().sum().backward()
        times.append(time.perf_counter() - start)
    encoder.zero_grad(set_to_none=True)
    return sorted(times)[repeats // 2], sum(kept.values())


def _close(found: Tensor, expected: Tensor) -> bool:
    scale = max(1e-3, float(expected.detach().abs().max()))
    return found.shape == expected.shape and float((found - expected).detach().abs().max()) <= _WITHIN * scale
