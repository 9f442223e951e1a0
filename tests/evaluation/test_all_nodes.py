"""Every node in place of either end: exact ranks, in parts, on any number of ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from mebns_pl.analysis.card import heuristic_results, patterns_of
from mebns_pl.callbacks.metrics_file import count_val_negatives
from mebns_pl.cli import main
from mebns_pl.data import batches
from mebns_pl.data.batches import EvalChunks
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.evaluation.all_nodes import AllNodesBatch, AllNodesComparison
from mebns_pl.evaluation.protocols import Protocol, RandomParting
from mebns_pl.graph.measures.neighbors import ResourceAllocation
from mebns_pl.systems.heuristic import Heuristic
from mebns_pl.types import Share
from references.runs import make_data


@pytest.fixture
def data() -> LinkDataModule:
    made = make_data(protocol=Protocol(RandomParting(val=0.2, test=0.2), AllNodesComparison()))
    return made


def legal_pairs(data: LinkDataModule, stage: str, u: int, v: int) -> list[frozenset[int]]:
    """What an edge is ranked against, worked out with sets."""
    split = data.split
    parts = [split.observed, split.val, *([split.test] if stage == "test" else [])]
    known = {frozenset(pair) for part in parts for pair in part.t().tolist()}
    nodes = range(data.spec.num_nodes)
    pairs = [frozenset((u, w)) for w in nodes if w != u] + [frozenset((w, v)) for w in nodes if w != v]
    return [pair for pair in pairs if pair not in known]


@pytest.mark.parametrize("stage", ["val", "test"])
def test_negatives_are_all_legal_pairs_of_either_end(data: LinkDataModule, stage: str) -> None:
    whole = data.eval_set(stage)
    assert isinstance(whole, AllNodesBatch)
    for row, (u, v) in enumerate(whole.positives.t().tolist()):
        part = whole.part(slice(row, row + 1))
        assert part.negatives is not None
        assert part.repeated is not None
        found = part.negatives[:, 0, ~part.repeated[0]].t().tolist()
        assert sorted(map(sorted, found)) == sorted(map(sorted, legal_pairs(data, stage, u, v)))


def test_the_ranks_are_those_of_a_loop_over_all_pairs(data: LinkDataModule) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (found,) = trainer.test(Heuristic(data.spec, ResourceAllocation()), data, verbose=False)
    measure, graph, reciprocal = ResourceAllocation(), data.test_graph, []
    for u, v in data.split.test.t().tolist():
        others = [sorted(pair) for pair in legal_pairs(data, "test", u, v)]
        scores = measure.pairs(graph, *torch.tensor([[u, v], *others]).t())
        higher, level = (scores[1:] > scores[0]).sum(), (scores[1:] == scores[0]).sum()
        reciprocal.append(1 / float(1 + higher + level / 2))
    assert found["test/mrr"] == pytest.approx(sum(reciprocal) / len(reciprocal))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_are_small_and_the_same_on_any_number_of_ranks(
    data: LinkDataModule, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, num = data.eval_set("test"), data.split.test.shape[1]
    monkeypatch.setattr(batches, "EVAL_PAIRS", 5 * data.spec.num_nodes)
    ranks = [EvalChunks(whole, Share(rank, size)) for rank in range(size)]
    chunks = [part[index] for part in ranks for index in range(len(part))]
    assert all(chunk.positives.shape[1] <= 2 for chunk in chunks)
    at_once = whole.part(slice(0, num))
    for name in ("positives", "negatives", "random_negatives"):
        assert torch.equal(torch.cat([getattr(chunk, name) for chunk in chunks], dim=1), getattr(at_once, name)), name


def test_card_and_counts_take_them_part_by_part(data: LinkDataModule) -> None:
    whole = data.eval_set("test")
    counts = [len(legal_pairs(data, "test", *pair)) for pair in whole.positives.t().tolist()]
    assert patterns_of(whole, data.spec.num_nodes).sum(axis=1).tolist() == counts
    assert len(heuristic_results(whole, data.test_graph)["AdamicAdar"].ranks) == len(counts)
    pairs = [pair for ends in data.split.val.t().tolist() for pair in legal_pairs(data, "val", *ends)]
    test = {frozenset(pair) for pair in data.split.test.t().tolist()}
    assert count_val_negatives(data) == {"total": len(pairs), "test_edges": sum(pair in test for pair in pairs)}


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The card says what edges were ranked against."""
    monkeypatch.chdir(tmp_path)
    args = ["test", "-c", "protocol/all_nodes", "--model=Heuristic", "--data.graph=air_routes"]
    main.main([*args, "--trainer.accelerator=cpu"])
    said = " ".join(capsys.readouterr().out.split())
    assert "against every node in place of either end, but known edges" in said
