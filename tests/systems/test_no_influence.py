"""Held-out edges have no influence (method, section 2), and the check would notice if they had one."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.types import EdgeSplit
from references.effort import some
from references.runs import MAKE, differing, fingerprint, fit, make_data, probe_monitor, replace_held_out

Leak = Callable[[LinkDataModule, AbstractLinkSystem], None]


def other_pairs(data: LinkDataModule) -> EdgeSplit:
    """The same training and meta edges; in place of each held-out edge a pair that is no edge at all."""
    split, nodes = data.split, torch.arange(data.loaded.num_nodes)
    pairs = torch.combinations(nodes).t()
    free = pairs[:, ~KnownEdges(data.full_graph).mask(pairs[0], pairs[1])]
    free = free[:, torch.randperm(free.shape[1], generator=torch.Generator().manual_seed(9))]
    num_val, num_test = split.val.shape[1], split.test.shape[1]
    return replace_held_out(split, free[:, :num_val], free[:, num_val : num_val + num_test])


def no_leak(data: LinkDataModule, system: AbstractLinkSystem) -> None:
    """The package as it is."""


def run(kind: str, leak: Leak, replaced: bool) -> dict[str, Tensor]:
    data = make_data()
    if replaced:
        data.split = other_pairs(make_data())
    system = MAKE[kind](data.spec)
    leak(data, system)
    trainer = fit(system, data, epochs=4, callbacks=[probe_monitor()])
    assert trainer.callback_metrics["val/mrr"] > 0  # held-out edges were there to be seen
    return fingerprint(data, system)


@functools.cache
def difference(kind: str, leak: Leak) -> frozenset[str]:
    """What replacing every held-out edge changes."""
    return frozenset(differing(run(kind, leak, replaced=False), run(kind, leak, replaced=True)))


@pytest.mark.parametrize("kind", ["MeBNS", "Plain"])
def test_held_out_edges_have_no_influence(kind: str) -> None:
    assert difference(kind, no_leak) == set()


def test_the_fingerprint_has_every_part() -> None:
    found = run("MeBNS", no_leak, replaced=False)
    for name, least in {
        "graph": 2,
        "known": 1,
        "legal": 1,
        "proposal": 3,
        "structure": 3,
        "batches": 5 * 9,
        "probe": 1,
        "meta": 4,
        "weights.student": 4,
        "weights.teacher": 4,
        "weights.weight_net": 3,  # all that it has: two layers, the last one without a bias
        "optimizers.0": 3,
        "optimizers.2": 3,
    }.items():
        assert sum(part == name or part.startswith(name + ".") for part in found) >= least, name
    assert found["probe"].shape == (2, 60)
    for table in ("proposal.proposals.1._nodes", "structure._nodes"):
        assert found[table].shape == (41, 6)


def test_the_replaced_pairs_are_others() -> None:
    data = make_data()
    one, other = data.split, other_pairs(data)
    assert one.val.shape == other.val.shape
    assert one.test.shape == other.test.shape
    keys = [set(map(tuple, torch.cat([split.val, split.test], dim=1).t().tolist())) for split in (one, other)]
    assert not keys[0] & keys[1]


# --- the check fails where a held-out edge gets in ------------------------------------------------------------------


def into_the_negative_mask(data: LinkDataModule, system: AbstractLinkSystem) -> None:
    data.known = KnownEdges(data.full_graph)


def into_the_candidates_table(data: LinkDataModule, system: AbstractLinkSystem) -> None:
    """The student's proposal is set up with every edge."""
    proposal = system.sampler.static
    right = proposal.setup
    proposal.setup = lambda graph, known: right(data.full_graph, known)  # type: ignore[method-assign]


def into_the_teachers_table(data: LinkDataModule, system: AbstractLinkSystem) -> None:
    """Structural non-edges are looked for with every edge."""
    right = data.structure.setup
    data.structure.setup = lambda graph, known: right(data.full_graph, known)  # type: ignore[method-assign]


def into_message_passing(data: LinkDataModule, system: AbstractLinkSystem) -> None:
    known = KnownEdges(data.train_graph)
    data.train_graph = data.full_graph
    data.known = known


def one_edge_into_the_mask(data: LinkDataModule, system: AbstractLinkSystem) -> None:
    """A single validation edge is masked out as known."""
    split = data.split
    graph = data.train_graph
    data.known = KnownEdges(
        type(graph).from_edges(torch.cat([split.observed, split.val[:, :1]], dim=1), graph.num_nodes)
    )


LEAKS: dict[Leak, set[str]] = {
    into_the_negative_mask: {"known", "legal", "proposal", "batches", "probe", "weights"},
    one_edge_into_the_mask: {"known", "legal"},
    into_the_candidates_table: {"proposal", "batches", "weights"},
    into_message_passing: {"graph", "weights", "score"},
}
ALTERNATELY = list(zip(LEAKS, itertools.cycle(["MeBNS", "Plain"]), strict=False))


@pytest.mark.parametrize(("leak", "kind"), some(itertools.product(LEAKS, ["MeBNS", "Plain"]), ALTERNATELY))
def test_a_leak_is_found(kind: str, leak: Leak) -> None:
    least = LEAKS[leak]
    assert difference(kind, leak) >= least


def test_a_leak_into_the_teachers_table_is_found() -> None:
    assert difference("MeBNS", into_the_teachers_table) >= {"structure", "batches", "meta", "probe", "weights"}
