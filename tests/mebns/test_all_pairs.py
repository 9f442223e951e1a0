"""The loss on all non-edges against a dense matrix: values, derivatives of both orders, blocks, ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mebns_pl import GCN, DotDecoder, EncoderDecoder, Key
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.graph.csr import Graph
from mebns_pl.mebns import all_pairs
from mebns_pl.mebns.all_pairs import all_pairs_step, non_edge_losses
from mebns_pl.mebns.learner import Learner
from references.step import NUM_NODES, make_batch, make_edges, make_features

KEY = Key(6, "tests/all_pairs")


class OneOf(SingleProcess):
    """One of several ranks, whose sums are its own share."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


class LargestMade(TorchDispatchMode):
    """Notes how many elements the largest tensor of real numbers has that is made within, backward passes included."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        self.size = max(self.size, *made, 0)
        return result


def non_edges(graph: Graph) -> Tensor:
    """``(N, N)`` bool, of two different nodes without an edge."""
    mask = ~torch.eye(graph.num_nodes, dtype=torch.bool)
    mask[graph.rows, graph.indices] = False
    return mask


@pytest.mark.parametrize("block", [2**20, 24 * 5, 24, 1])
def test_it_is_the_sum_over_the_dense_matrix(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_pairs, "BLOCK", block)
    graph = Graph.from_edges(make_edges(), NUM_NODES)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(NUM_NODES, 3, dtype=torch.float64, generator=generator).requires_grad_()
    bias = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    expected = softplus(z @ z.t() + bias)[non_edges(graph)].sum()
    found = non_edge_losses(z, bias, graph, SingleProcess())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-10)
    for size in (2, 3):
        parts = [non_edge_losses(z, bias, graph, OneOf(rank, size)) for rank in range(size)]
        torch.testing.assert_close(sum(parts), expected, rtol=1e-12, atol=1e-10)
    masked = non_edge_losses(z, bias, graph.without(make_edges()[:, :7]), SingleProcess())
    torch.testing.assert_close(masked, expected, rtol=1e-12, atol=1e-10)  # an edge that passes no message is one still
    both = []
    for value in (found, expected):
        grads = torch.autograd.grad(value, [z, bias], create_graph=True)
        second = torch.autograd.grad((grads[0] * z.detach().cos()).sum() + grads[1].sin(), [z, bias])
        both.append((*grads, *second))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_only_a_block_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the backward pass keeps does not grow with the number of blocks."""
    kept = []
    for num_nodes in (64, 256):
        monkeypatch.setattr(all_pairs, "BLOCK", 64 * 8)
        sizes: list[int] = []
        z, bias = torch.randn(num_nodes, 4).requires_grad_(), torch.zeros((), requires_grad=True)
        graph = Graph.from_edges(torch.tensor([[0], [1]]), num_nodes)

        def note(value: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            non_edge_losses(z, bias, graph, SingleProcess())
        kept.append(max(sizes) / num_nodes)
    assert kept[0] == kept[1] == 4  # the embeddings themselves


def copied_rows(z: Tensor, pairs: Tensor) -> Tensor:
    """What inner products are made of on a GPU."""
    return (z[pairs[0]] * z[pairs[1]]).sum(dim=1)


@pytest.mark.parametrize("dots", [all_pairs.pair_dots, copied_rows])
def test_given_pairs_are_taken_by_blocks(dots: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is as large as the edges, or as the embeddings of a batch's pairs."""
    monkeypatch.setattr(all_pairs, "BLOCK", 2**12)
    monkeypatch.setattr(all_pairs, "pair_dots", dots)
    edges = torch.combinations(torch.arange(160)).t()[:, ::2]
    graph, mask = Graph.from_edges(edges, 160), torch.ones(edges.shape[1], 1, dtype=torch.bool)
    z, bias = torch.randn(160, 16).requires_grad_(), torch.zeros((), requires_grad=True)
    with LargestMade() as made:
        torch.autograd.grad(non_edge_losses(z, bias, graph, SingleProcess()), [z, bias])
    assert 0 < made.size <= 2**12 < graph.num_edges
    batch = replace(make_batch(0), positives=edges, union_positives=edges, candidates=edges[1, :, None])
    nothing = {"teacher_negatives": edges[1, :, None][:, :0], "teacher_mask": mask[:, :0]}
    batch = replace(batch, candidate_mask=mask, **nothing)
    student = EncoderDecoder(graph.spec, partial(GCN, hidden_channels=16), DotDecoder)
    with LargestMade() as made:
        all_pairs_step(Learner(student, SGD(student.parameters(), lr=0.1)), False, batch, graph, KEY, SingleProcess())
    assert graph.num_edges <= made.size < 4 * graph.num_edges  # a number an edge for messages, not 16 a pair


@pytest.mark.parametrize("hide_positives", [True, False])
def test_a_step_is_the_gradient_of_the_balanced_loss(hide_positives: bool) -> None:
    graph, batch = Graph.from_edges(make_edges(), NUM_NODES, make_features("dense")), make_batch(0)
    batch = replace(batch, teacher_negatives=batch.teacher_negatives[:, :0], teacher_mask=batch.teacher_mask[:, :0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = partial(GCN, hidden_channels=4, dropout=0.3)
        student = EncoderDecoder(graph.spec, encoder, DotDecoder).double()
    learner = Learner(student, SGD(student.parameters(), lr=0.1))
    result = all_pairs_step(learner, hide_positives, batch, graph, KEY, SingleProcess())
    seen = graph.without(batch.positives) if hide_positives else graph
    z = student.encoder(seen, KEY.child("student").child("encoder"))
    logits = z @ z.t() + student.decoder.bias
    loss = softplus(-logits[batch.positives[0], batch.positives[1]]).mean() / 2
    loss = loss + softplus(logits[non_edges(graph)]).mean() / 2
    found = result.learned["student"]
    torch.testing.assert_close(found.loss, loss.detach())
    for one, other in zip(found.dense, torch.autograd.grad(loss, list(student.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    shown = result.negatives
    torch.testing.assert_close(shown.logits, logits.detach()[shown.pairs[0], shown.pairs[1]])
    assert shown.pairs[1].tolist() == batch.candidates.flatten().tolist()
    assert torch.equal(shown.mask, batch.candidate_mask.flatten())
