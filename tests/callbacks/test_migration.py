"""The migration monitor: it logs what the tracker says of the right pairs at the right time, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mebns_pl import MigrationMonitor
from mebns_pl.analysis.migration import MigrationTracker
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.negatives.selectors.first import FirstSelector
from mebns_pl.systems.link_system import AbstractLinkSystem
from references.runs import ALL_WARM_UP, MAKE, equal, fit, make_data, make_plain, probe_monitor, weights


class Spy(Callback):
    """After each epoch: what was logged, and the student's scores of all pairs."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.scores: list[Tensor] = []
        self.first_steps: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.first_steps.append(dict(outputs))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AbstractLinkSystem)
        nodes = torch.arange(41)
        self.scores.append(pl_module.score(torch.cartesian_prod(nodes, nodes).t()).view(41, 41))
        found = trainer.callback_metrics
        self.logged.append(
            {n.removeprefix("migration/"): float(v) for n, v in found.items() if n.startswith("migration/")}
        )


def watched(kind: str, epochs: int = 5, **options: Any) -> Spy:
    data, spy = make_data(), Spy()
    fit(MAKE[kind](data.spec), data, epochs, [probe_monitor(**options), spy])
    return spy


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_it_logs_the_trackers_scalars_of_the_probe(kind: str) -> None:
    spy = watched(kind)
    probe = make_data()
    probe.setup("fit")
    pairs = probe.probe(40)
    tracker = MigrationTracker(lags=(1, 2))
    sampled = ("picked_turned_easy", "unpicked_turned_easy")
    seen: set[str] = set()
    for logged, scores in zip(spy.logged, spy.scores, strict=True):
        expected = tracker.update(scores[pairs[0], pairs[1]])
        found = {name: value for name, value in logged.items() if name in expected}
        assert found == pytest.approx(expected, abs=1e-5)
        seen |= set(logged)
    assert seen <= {"hard_score", "churn@1", "churn@2", "easy_to_hard", "hard_to_easy", "flips_mean", *sampled}
    assert {"hard_score", "churn@1", "churn@2", "flips_mean"} <= seen


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_sampled_migration_by_hand(kind: str) -> None:
    """Of the first step's picks that are hard now, how many are easy an epoch later; and of their nearest unpicked."""
    spy = watched(kind, epochs=6)
    compared = 0
    for epoch in range(5):
        picked, unpicked = (spy.first_steps[epoch][name][:, :40].t().tolist() for name in ("picked", "unpicked"))
        now, later = spy.scores[epoch], spy.scores[epoch + 1]
        hard = [pair for pair in picked if now[tuple(pair)] >= spy.logged[epoch]["hard_score"]]
        if not hard:
            continue
        level = spy.logged[epoch + 1]["hard_score"]
        easy = [float(later[tuple(pair)]) < level for pair in hard]
        assert spy.logged[epoch + 1]["picked_turned_easy"] == pytest.approx(sum(easy) / len(easy))
        controls = [
            min(unpicked, key=lambda other, pair=pair: abs(now[tuple(other)] - now[tuple(pair)])) for pair in hard
        ]
        easy = [float(later[tuple(pair)]) < level for pair in controls]
        # Nearest scores can be tied, so a share apart
        assert spy.logged[epoch + 1]["unpicked_turned_easy"] == pytest.approx(sum(easy) / len(easy), abs=0.35)
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_watching_changes_nothing(kind: str) -> None:
    found = []
    for callbacks in ([], [probe_monitor()]):
        data = make_data()
        system = MAKE[kind](data.spec)
        fit(system, data, 3, callbacks)
        found.append(weights(system))
    assert equal(*found)


@ALL_WARM_UP
def test_the_probe_is_the_same_for_all_samplers() -> None:
    probes = []
    for kind, changes in (
        ("Plain", {}),
        ("MeBNS", {}),
        ("Plain", {"proposal": UniformProposal(), "num_candidates": 2}),
    ):
        data, monitor = make_data(), probe_monitor()
        fit(MAKE[kind](data.spec, **changes), data, 1, [monitor])
        probes.append(monitor.probe)
    assert torch.equal(probes[0], probes[1])
    assert torch.equal(probes[0], probes[2])


def test_nothing_was_passed_over() -> None:
    """All candidates picked: there is nothing to compare picks with."""
    data, spy = make_data(), Spy()
    fit(make_plain(data.spec, num_candidates=1, selector=FirstSelector(1)), data, 3, [probe_monitor(), spy])
    assert "churn@1" in spy.logged[-1]
    assert "picked_turned_easy" not in spy.logged[-1]


def test_a_probe_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="probe_size: expected 10 pairs or more, got 9"):
        MigrationMonitor(probe_size=9)
    with pytest.raises(ValueError, match="share: .* got 2"):
        MigrationMonitor(share=2)
