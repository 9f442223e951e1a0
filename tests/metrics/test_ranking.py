"""The accumulating metrics: equal to the pure functions on everything at once, however it was cut."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mebns_pl.metrics import functional
from mebns_pl.metrics.ranking import (
    RankMetric,
    SharedMetric,
    classification_metrics,
    link_metrics,
    shared_link_metrics,
)


def scores(p: int = 24, n: int = 15) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randint(-4, 4, (p,), generator=generator).float() / 3,
        torch.randint(-6, 3, (p, n), generator=generator).float() / 3,
    )


def negatives_of(metric: Metric | MetricCollection, negative: Tensor) -> Tensor:
    """The negatives in the shape that the metric wants."""
    one = metric if isinstance(metric, Metric) else next(iter(metric.values()))
    return negative if isinstance(one, RankMetric) else negative.flatten()


def mrr() -> Metric:
    return RankMetric(functional.mean_reciprocal_rank)


def auc() -> Metric:
    return SharedMetric(functional.auc)


METRICS = [
    pytest.param(mrr, lambda p, n: functional.mean_reciprocal_rank(functional.ranks(p, n)), id="mrr"),
    pytest.param(
        lambda: link_metrics([3])["hits@3"], lambda p, n: functional.hits_at(functional.ranks(p, n), 3), id="hits"
    ),
    pytest.param(auc, lambda p, n: functional.auc(p, n.flatten()), id="auc"),
    pytest.param(
        lambda: SharedMetric(functional.average_precision),
        lambda p, n: functional.average_precision(p, n.flatten()),
        id="ap",
    ),
    pytest.param(
        lambda: shared_link_metrics([])["mrr"],
        lambda p, n: functional.mean_reciprocal_rank(functional.ranks_shared(p, n.flatten())),
        id="shared mrr",
    ),
    pytest.param(
        lambda: shared_link_metrics([20])["hits@20"],
        lambda p, n: functional.hits_above(p, n.flatten(), 20),
        id="shared hits",
    ),
]


@pytest.mark.parametrize(("make", "expected"), METRICS)
def test_updates_in_parts_equal_one(make, expected):
    positive, negative = scores()
    metric = make()
    for part in (slice(0, 5), slice(5, 5), slice(5, 24)):
        metric.update(positive[part], negatives_of(metric, negative[part]))
    assert metric.compute().dtype == torch.float64
    assert metric.compute().item() == pytest.approx(expected(positive, negative).item(), rel=1e-14)
    metric.reset()
    metric.update(positive[:7], negatives_of(metric, negative[:7]))
    assert metric.compute().item() == pytest.approx(expected(positive[:7], negative[:7]).item(), rel=1e-14)


@pytest.mark.parametrize(("make", "expected"), METRICS)
def test_merged_states_equal_one(make, expected):
    positive, negative = scores()
    left, right = make(), make()
    left.update(positive[:9], negatives_of(left, negative[:9]))
    right.update(positive[9:], negatives_of(right, negative[9:]))
    left.merge_state(right)
    assert left.compute().item() == pytest.approx(expected(positive, negative).item(), rel=1e-14)


@pytest.mark.parametrize(("make", "expected"), METRICS)
def test_a_pickled_metric_goes_on(make, expected):
    positive, negative = scores()
    metric = make()
    metric.update(positive[:9], negatives_of(metric, negative[:9]))
    metric = pickle.loads(pickle.dumps(metric))
    metric.update(positive[9:], negatives_of(metric, negative[9:]))
    assert metric.compute().item() == pytest.approx(expected(positive, negative).item(), rel=1e-14)


@pytest.mark.parametrize(("make", "expected"), METRICS)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_seen_is_refused(make, expected):
    with pytest.raises(ValueError, match="at least one|no negative to rank"):
        make().compute()


def test_scores_are_kept_without_their_graph():
    metric = auc()
    score = torch.ones(2, dtype=torch.float64, requires_grad=True)
    metric.update(score, score)
    assert not metric.positive[0].requires_grad
    assert not metric.negative[0].requires_grad


def test_number_of_negatives_may_differ_between_batches():
    metric = mrr()
    metric.update(torch.tensor([1.0]), torch.tensor([[2.0]]))
    metric.update(torch.tensor([1.0]), torch.tensor([[2.0, 2.0, 2.0]]))
    assert metric.compute().item() == (1 / 2 + 1 / 4) / 2


def test_ranks_are_counted_once_for_all_metrics(monkeypatch):
    calls = []

    def counting(*args, counted=functional.ranks):
        calls.append(args)
        return counted(*args)

    monkeypatch.setattr(functional, "ranks", counting)
    metrics = link_metrics(hits=(1, 3, 10)).clone(prefix="val/")
    positive, negative = scores()
    for round_ in range(2):
        for part in (slice(0, 5), slice(5, 24)):
            metrics.update(positive[part], negative[part])
        values = metrics.compute()
        assert len(calls) == 2 * (round_ + 1)
        metrics.reset()
    monkeypatch.undo()
    assert list(metrics.compute_groups.values()) == [["mrr", "hits@1", "hits@3", "hits@10"]]
    assert set(values) == {"val/mrr", "val/hits@1", "val/hits@3", "val/hits@10"}
    places = functional.ranks(positive, negative)
    assert values["val/mrr"].item() == pytest.approx(functional.mean_reciprocal_rank(places).item(), rel=1e-14)
    for k in (1, 3, 10):
        assert values[f"val/hits@{k}"].item() == pytest.approx(functional.hits_at(places, k).item(), rel=1e-14)


def test_torchmetrics_finds_the_same_groups_by_itself():
    metrics = MetricCollection({"mrr": mrr(), "hits@3": RankMetric(partial(functional.hits_at, k=3)), "auc": auc()})
    metrics["auc"].update = lambda positive, negative: SharedMetric.update(metrics["auc"], positive, negative.flatten())
    metrics.update(*scores())
    assert sorted(map(sorted, metrics.compute_groups.values())) == [["auc"], ["hits@3", "mrr"]]


def test_classification_metrics_share_their_scores(monkeypatch):
    def keeping_its_own(*args):
        raise AssertionError("the scores are kept twice")

    metrics = classification_metrics()
    monkeypatch.setattr(metrics["ap"], "update", keeping_its_own)
    positive, negative = scores()
    metrics.update(positive, negative[:, 0])
    values = metrics.compute()
    assert values["auc"].item() == pytest.approx(functional.auc(positive, negative[:, 0]).item(), rel=1e-14)
    expected = functional.average_precision(positive, negative[:, 0])
    assert values["ap"].item() == pytest.approx(expected.item(), rel=1e-14)


def test_shared_metrics_keep_their_scores_once_and_see_all_of_them():
    positive, negative = scores()
    metrics = shared_link_metrics(hits=[2, 50])
    for part in (slice(0, 10), slice(10, 24)):
        metrics.update(positive[part], negative[part].flatten())
    found = {name: value.item() for name, value in metrics.compute().items()}
    places = functional.ranks_shared(positive, negative.flatten())
    assert found == pytest.approx(
        {
            "mrr": functional.mean_reciprocal_rank(places).item(),
            "hits@2": functional.hits_above(positive, negative.flatten(), 2).item(),
            "hits@50": functional.hits_above(positive, negative.flatten(), 50).item(),
            "auc": functional.auc(positive, negative.flatten()).item(),
            "ap": functional.average_precision(positive, negative.flatten()).item(),
        }
    )
    assert len(metrics.compute_groups) == 1
    with pytest.raises(ValueError, match="hits: expected each k once"):
        shared_link_metrics([1, 1])
    with pytest.raises(ValueError, match="k: expected 1 or more, got 0"):
        shared_link_metrics([0])


def test_the_default_names():
    assert set(link_metrics()) == {"mrr", "hits@1", "hits@3", "hits@10", "hits@20", "hits@50", "hits@100"}
    assert set(classification_metrics()) == {"auc", "ap"}


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="k: expected 1 or more, got 0"):
        link_metrics([0])
    with pytest.raises(ValueError, match=r"hits: .*\[1, 1\]"):
        link_metrics(hits=(1, 1))
    with pytest.raises(ValueError, match=r"\(24, 15\)"):
        auc().update(*scores())


@pytest.mark.parametrize(("make", "expected"), METRICS)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_an_empty_state_is_gathered_with_the_others(make, expected):
    positive, negative = scores()
    full, empty = make(), make()
    full.update(positive, negatives_of(full, negative))
    elsewhere = iter([values[0] for values in full.metric_state.values()])

    def gather(local: Tensor, group: object) -> list[Tensor]:
        other = next(elsewhere)
        assert local.shape == (0,)
        assert local.dtype == other.dtype, "processes would exchange buffers of different types"
        return [local, other]

    empty.dist_sync_fn, empty.distributed_available_fn = gather, lambda: True
    assert empty.compute().item() == pytest.approx(expected(positive, negative).item(), rel=1e-14)


def _rank_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    positive, negative = scores()
    ranked, classed = link_metrics(hits=(3,)), classification_metrics()
    if rank == 0:  # the other process sees no batch at all
        ranked.update(positive, negative)
        classed.update(positive, negative[:, 0])
    values = {name: value.item() for name, value in (ranked.compute() | classed.compute()).items()}
    torch.save(values, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_a_process_without_batches_joins_the_gathering(tmp_path):
    mp.spawn(_rank_process, args=(str(tmp_path),), nprocs=2)
    positive, negative = scores()
    places = functional.ranks(positive, negative)
    expected = {
        "mrr": functional.mean_reciprocal_rank(places).item(),
        "hits@3": functional.hits_at(places, 3).item(),
        "auc": functional.auc(positive, negative[:, 0]).item(),
        "ap": functional.average_precision(positive, negative[:, 0]).item(),
    }
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(expected, rel=1e-14)
