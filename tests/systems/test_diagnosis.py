"""What is told of held-out edges after a fit, against counts by hand; training knows nothing of them."""

from __future__ import annotations

import pytest
import torch

from mebns_pl import TeacherFilter
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.mebns.step import Negatives
from mebns_pl.systems.diagnosis import diagnose
from references.runs import MAKE, fit, make_data, replace_held_out, weights


@pytest.mark.parametrize("kind", ["Plain", "MeBNS", "MeBNS, a guard at the top"])
def test_shares_are_those_of_the_steps(kind: str) -> None:
    data, guard = make_data(), TeacherFilter(drop_easy=0.2, drop_top=0.4, missing=None)
    system = MAKE["Plain"](data.spec) if kind == "Plain" else MAKE["MeBNS"](data.spec)
    if "guard" in kind:
        system.filter = guard
    fit(system, data, epochs=3)
    held_out = {frozenset(pair) for part in (data.split.val, data.split.test) for pair in part.t().tolist()}
    steps = data.train_steps(system.needs)
    legal, dropped, top, picks = [], [], [], []
    for place in range(min(len(steps), 4)):
        batch, result, _ = system.step(steps[2, place])
        found = result.negatives
        for row, column in batch.candidate_mask.nonzero().tolist():
            pair = frozenset((int(batch.candidate_anchors[row]), int(batch.candidates[row, column])))
            legal.append(pair in held_out)
            if not found.kept[row, column]:
                dropped.append(pair in held_out)
                stay = found.candidate_hardness[row][found.kept[row]].tolist()
                if all(float(found.candidate_hardness[row, column]) > value for value in stay):
                    top.append(pair in held_out)
        for place in found.mask.nonzero().flatten().tolist():
            picks.append(
                (
                    frozenset(found.pairs[:, place].tolist()) in held_out,
                    *(float(v[place]) for v in (found.weights, found.starting)),
                )
            )
    assert any(legal)
    expected = {"num_candidates": len(legal), "held_out/candidates": sum(legal) / len(legal)}
    expected["held_out/picked"] = sum(w for held, w, _ in picks if held) / sum(w for _, w, _ in picks)
    if dropped:
        expected["num_dropped"] = len(dropped)
        expected["held_out/dropped"] = sum(dropped) / len(dropped)
    if top:
        expected["num_dropped_top"] = len(top)
        expected["held_out/dropped_top"] = sum(top) / len(top)
    factors = {one: [w / s for held, w, s in picks if held is one] for one in (True, False)}
    if all(factors.values()):
        held, others = (sum(factors[one]) / len(factors[one]) for one in (True, False))
        expected["held_out/weight"] = held / others
    assert system.diagnosis == pytest.approx(expected, rel=1e-5)
    assert ("held_out/dropped" in expected) == (kind != "Plain")
    assert ("num_dropped_top" in expected) == ("guard" in kind)


def test_training_knows_nothing_of_them() -> None:
    found = []
    for replaced in (False, True):
        data = make_data()
        if replaced:
            data.split = replace_held_out(data.split, data.split.val[:, :1], data.split.test[:, :1])
        system = MAKE["MeBNS"](data.spec)
        fit(system, data, epochs=2)
        found.append((weights(system), system.diagnosis))
    assert all(torch.equal(found[0][0][name], found[1][0][name]) for name in found[0][0])
    assert found[0][1] != found[1][1]


def test_without_held_out_edges_nothing_is_told() -> None:
    class NoEdges:
        class split:
            val = test = torch.empty(2, 0, dtype=torch.int64)

    def look(batch: object) -> tuple[object, Negatives]:
        raise AssertionError("no step is made")

    assert diagnose(NoEdges, iter([]), look, SingleProcess()) == {}
