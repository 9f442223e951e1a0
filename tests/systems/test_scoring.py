"""The student alone, and the cascade: teacher gates, student ranks."""

from __future__ import annotations

import math

import pytest
import torch

from mebns_pl import CascadeScoring, MeBNS, StudentScoring, predict_links
from mebns_pl.mebns.filters.teacher import TeacherFilter
from mebns_pl.systems.scoring import lowest_kept
from references.runs import fit, make_data, make_mebns, make_plain, make_sampler, make_trainer


def trained() -> tuple[MeBNS, object]:
    data = make_data()
    system = make_mebns(data.spec, filter=TeacherFilter(0.6))
    fit(system, data, epochs=3)
    return system, data


def logits(predictor: torch.nn.Module, graph: object, pairs: torch.Tensor) -> list[float]:
    with torch.no_grad():
        return predictor(predictor.prepare(graph, pairs)).tolist()


@pytest.mark.parametrize("drop_easy", [None, 0.0, 0.9])
def test_the_cascade_ranks_what_the_teacher_lets_pass(drop_easy: float | None) -> None:
    system, data = trained()
    graph, sample = data.full_graph, 20_000  # so many that the easiest pair is among them
    found = predict_links(system, data, 10**6, scoring=CascadeScoring(drop_easy, sample=sample), trainer=make_trainer())
    drawn = data.training_candidates(system.sampler.static, sample)
    assert not data.known.mask(drawn[0], drawn[1]).any()
    share = 0.6 if drop_easy is None else drop_easy
    hardness = sorted(logits(system.teacher, graph, drawn))
    threshold = hardness[math.floor(share * len(hardness) + 1e-9)]

    whole = predict_links(system, data, 10**6, trainer=make_trainer())
    number = {name: i for i, name in enumerate(data.loaded.node_names)}
    pairs = torch.tensor([[number[name] for name in whole[end]] for end in ("source", "target")])
    passed = [value >= threshold for value in logits(system.teacher, graph, pairs)]
    expected = whole[passed]
    assert len(expected) > 0
    assert (len(expected) < len(whole)) == (share > 0)
    assert found["source"].tolist() == expected["source"].tolist()
    assert found["target"].tolist() == expected["target"].tolist()
    assert found["logit"].tolist() == pytest.approx(expected["logit"].tolist(), abs=1e-6)
    assert found["rank"].tolist() == list(range(1, len(found) + 1))


def test_the_threshold_is_that_of_trainings_candidates() -> None:
    """They come from the module's proposal, anchors from training edges; the same at each call, on any rank."""
    system, data = trained()
    one, two = (data.training_candidates(system.sampler.static, 300) for _ in range(2))
    assert torch.equal(one, two)
    assert set(one[0].tolist()) <= set(data.split.train.flatten().tolist())
    fresh = make_data()  # the proposal is set up where no fit did so
    assert torch.equal(fresh.training_candidates(make_sampler().static, 300), one)


def test_the_share_is_dropped() -> None:
    values = torch.tensor([3.0, 1.0, 2.0, 0.0])
    assert [float(lowest_kept(values, share)) for share in (0.0, 0.25, 0.3, 0.5, 0.99)] == [0.0, 1.0, 1.0, 2.0, 3.0]
    assert float(lowest_kept(torch.arange(100.0), 0.29)) == 29
    assert float(lowest_kept(values[:0], 0.5)) == -math.inf


def test_the_student_alone_is_the_default() -> None:
    system, data = trained()
    one = predict_links(system, data, 7, trainer=make_trainer())
    two = predict_links(system, data, 7, scoring=StudentScoring(), trainer=make_trainer())
    assert one.equals(two)
    cascade = predict_links(system, data, 7, scoring=CascadeScoring(0.99), trainer=make_trainer())
    assert not cascade.equals(one)
    assert predict_links(system, data, 7, trainer=make_trainer()).equals(one)  # the cascade does not stay


def test_a_system_without_teacher_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    monkeypatch.setattr(data, "build_pool", lambda needs: pytest.fail("a pool was built"))
    with pytest.raises(
        ValueError, match="CascadeScoring needs the teacher of a MeBNS system, and this system has none"
    ):
        predict_links(make_plain(data.spec), data, 3, scoring=CascadeScoring(), trainer=make_trainer())


def test_a_filter_that_drops_nothing_easy_gives_no_threshold() -> None:
    data = make_data()
    system = make_mebns(data.spec, filter=TeacherFilter(drop_easy=0.0))
    with pytest.raises(ValueError, match="whose drop_easy is 0, so every pair would pass; give it a drop_easy"):
        predict_links(system, data, 3, scoring=CascadeScoring(), trainer=make_trainer())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_easy": 1.0}, r"drop_easy: expected a share in \[0, 1\) or null, got 1\.0"),
        ({"drop_easy": -0.1}, "drop_easy: .* got -0.1"),
        ({"sample": 0}, "sample: expected 1 or more, got 0"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CascadeScoring(**options)
