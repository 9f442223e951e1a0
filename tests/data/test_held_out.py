"""Splits of one's own are checked, and what held-out edges are ranked against counts once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mebns_pl import EdgeSplit, HeartNegatives, LinkDataModule, RandomNegatives
from mebns_pl.data.batches import EvalChunks
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.split import SplitFractions
from mebns_pl.errors import DataError
from mebns_pl.evaluation.negatives import repeated_pairs
from mebns_pl.metrics.stage import StageMetrics
from mebns_pl.types import EvalBatch, Share

RING = torch.tensor([(i, (i + step) % 30) for i in range(30) for step in (1, 2, 3)]).t()


def make_data(edges: Tensor = RING, size: int = 30, negatives: int = 100) -> LinkDataModule:
    low, high = edges.sort(dim=0).values
    order = (low * size + high).argsort()
    data = LinkDataModule(split=SplitFractions(0.1, 0.1, 0.1), eval_negatives=RandomNegatives(negatives), batch_size=10)
    data.loaded = LoadedGraph("ring", torch.stack([low, high])[:, order], [f"node {i}" for i in range(size)])
    return data


def parts(data: LinkDataModule) -> EdgeSplit:
    edges = data.loaded.edges
    return EdgeSplit(edges[:, :60], edges[:, 60:65], edges[:, 65:75], edges[:, 75:])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: {"train": torch.cat([s.train, s.test.flip(0)], dim=1)}, r"split\.test: 15 of its 15 edges"),
        (lambda s: {"train": torch.cat([s.train, s.test[:, :1]], dim=1)}, r"split\.test: 1 of its 15 edges"),
        (lambda s: {"val": s.test}, r"split\.test: 15 of its 15 edges are in split\.val, too"),
        (lambda s: {"val": s.train[:, 3:9].flip(0)}, r"split\.val: 6 of its 6 edges are in split\.train"),
        (lambda s: {"meta": s.train[:, :1]}, r"split\.meta: 1 of its 1 edges are in split\.train"),
        (lambda s: {"test": torch.cat([s.test, s.test[:, 2:3].flip(0)], dim=1)}, r"split\.test: edge .* stands twice"),
        (lambda s: {"train": torch.cat([s.train, s.train[:, :1]], dim=1)}, r"train: edge \('node 0', 'node 1'\)"),
        (lambda s: {"test": torch.tensor([[4], [4]])}, r"split\.test: got \[4, 4\]"),
        (lambda s: {"test": torch.tensor([[4], [30]])}, r"split\.test: got \[4, 30\]; .* 0 \.\.\. 29"),
        (lambda s: {"test": s.test.float()}, r"split\.test: got torch\.float32"),
        (lambda s: {"test": s.test.t()}, r"split\.test: got torch\.int64 of shape \(15, 2\)"),
        (lambda s: {"test": s.test.tolist()}, r"split\.test: got list"),
    ],
)  # fmt: skip
def test_a_split_of_ones_own_is_checked(change: object, told: str) -> None:
    data = make_data()
    split = parts(data)
    with pytest.raises(DataError, match=told):
        data.split = replace(split, **change(split))  # type: ignore[operator]
    data.split = replace(split, train=split.train.flip(0), test=split.test[:, torch.randperm(15)])
    assert data.split.train.shape == (2, 60)


def count_of(data: LinkDataModule, stage: str) -> list[int]:
    batch = data.eval_set(stage)
    keys = batch.negatives.min(dim=0).values * 30 + batch.negatives.max(dim=0).values
    return [len(set(row)) for row in keys.tolist()]


@pytest.mark.parametrize("negatives", [RandomNegatives(100), RandomNegatives(61), HeartNegatives(40)])
def test_negatives_that_are_drawn_again_do_not_count(negatives: object) -> None:
    """The rank is that among different negatives, as counted one by one."""
    data = make_data()
    data.eval_negatives = negatives  # type: ignore[assignment]
    for stage in ("val", "test"):
        batch = data.eval_set(stage)
        assert batch.repeated is not None
        assert (~batch.repeated).sum(dim=1).tolist() == count_of(data, stage)
        scores = {(i, j): float((i * 7919 + j * 104_729) % 101) for i in range(30) for j in range(30)}

        def score(pairs: Tensor, scores: dict[tuple[int, int], float] = scores) -> Tensor:
            return torch.tensor([scores[min(pair), max(pair)] for pair in map(tuple, pairs.t().tolist())])

        stages = StageMetrics()
        chunks = EvalChunks(batch, Share(), 300)
        for place in range(len(chunks)):
            stages.update(score, chunks[place])
        ranks = []
        for place, positive in enumerate(map(tuple, batch.positives.t().tolist())):
            own = {tuple(sorted(pair)) for pair in batch.negatives[:, place].t().tolist()}
            better = sum(scores[pair] > scores[min(positive), max(positive)] for pair in own)
            equal = sum(scores[pair] == scores[min(positive), max(positive)] for pair in own)
            ranks.append(1 + better + equal / 2)
        assert stages.compute()["mrr"].item() == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks), abs=1e-12)


def test_how_many_different_negatives_there_are_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mebns_pl")
    data = make_data()
    least = min(count_of(data, "test"))
    assert f"than the 100 asked for, the least {least}; none counts twice" in caplog.text
    caplog.clear()
    few = make_data(negatives=10)
    assert few.eval_set("test").repeated is None
    assert "asked for" not in caplog.text


def test_repeated_pairs_by_hand() -> None:
    positives = torch.tensor([[0, 0], [1, 2]])
    of_first = [[0, 3], [0, 4], [0, 3], [2, 1], [3, 1], [4, 1]]
    of_second = [[0, 4], [0, 4], [0, 3], [1, 2], [3, 2], [4, 2]]
    negatives = torch.tensor([of_first, of_second]).permute(2, 0, 1)
    known = torch.tensor([[0], [1]])
    repeated = repeated_pairs(positives, negatives, 5, known)
    assert repeated is not None
    assert repeated.nonzero().tolist() == [[0, 2], [1, 1]]
    assert repeated_pairs(positives, negatives[:, :, :1], 5, known) is None
    assert EvalBatch(positives, negatives, positives).repeated is None


def test_a_node_that_is_linked_to_all_others_is_named_by_its_name() -> None:
    star = torch.stack([torch.zeros(40, dtype=torch.long), torch.arange(1, 41)])
    data = make_data(star, 41)
    assert data.unrankable("val") == ""
    assert "split.test: node 'node 0' is linked to all other 40 nodes" in data.unrankable("test")
    data.eval_set("val")
    with pytest.raises(DataError, match=r"split\.test: node 'node 0' is linked to all other 40 nodes"):
        data.eval_set("test")


def test_it_is_told_before_training(caplog: pytest.LogCaptureFixture) -> None:
    from lightning.pytorch import Trainer

    from mebns_pl import Plain
    from mebns_pl.cli.preflight import check_run

    star = torch.stack([torch.zeros(40, dtype=torch.long), torch.arange(1, 41)])
    data = make_data(star, 41)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    check_run("fit", Plain(data.spec), data, trainer)
    assert "node 'node 0' is linked to all other 40 nodes" in caplog.text
    assert "`mebns test` would refuse it" in caplog.text
