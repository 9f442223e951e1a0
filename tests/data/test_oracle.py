"""An oracle leaves held-out edges out of all negatives, for analysis alone, and cannot be taken for an honest run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mebns_pl import CacheProposal, LinkDataModule
from mebns_pl.callbacks.metrics_file import MetricsFile
from mebns_pl.errors import DataError
from mebns_pl.metrics_json import NAME, read_metrics
from mebns_pl.systems.checkpoint_io import CheckpointError
from references.runs import drawn_pairs, fit, make_data, make_mebns, make_plain, make_trainer, pairs_of


def all_negatives(data: LinkDataModule) -> set[tuple[int, ...]]:
    """Of ten epochs of MeBNS: candidates, the teacher's negatives, and what a meta set is collected from."""
    system = make_mebns(data.spec)
    steps, drawn = data.train_steps(system.needs), set()
    for epoch in range(10):
        for step in range(len(steps)):
            drawn |= drawn_pairs(steps[epoch, step])
        pool, labels = data.meta_pool(data.enhanced(system.sampler.static, 0.5), 4, data.key.child("pool").at(epoch))
        drawn |= pairs_of(pool[:, labels == 0])
    return drawn


@pytest.mark.parametrize("probe_first", [True, False])
def test_no_negative_of_an_oracle_is_held_out(caplog: pytest.LogCaptureFixture, probe_first: bool) -> None:
    honest, oracle = make_data(), make_data(oracle=True)
    probe = honest.probe(60)
    held_out = pairs_of(torch.cat([honest.split.val, honest.split.test], dim=1))
    if probe_first:
        assert torch.equal(oracle.probe(60), probe)
    drawn = all_negatives(oracle)
    assert not drawn & held_out
    assert not drawn & pairs_of(oracle.split.observed)
    assert len(all_negatives(honest) & held_out) > 10
    # The pairs that are watched are the honest run's, held-out edges among them, whatever was set up before
    assert torch.equal(oracle.probe(60), probe)
    assert pairs_of(probe) & held_out
    assert not all_negatives(oracle) & held_out
    assert sum("for analysis alone" in record.message for record in caplog.records) == 1


def test_an_adaptive_proposal_of_an_oracle_knows_them_too() -> None:
    data = make_data(oracle=True)
    system = make_plain(data.spec, proposal=CacheProposal(), num_candidates=4)
    fit(system, data, 1)
    assert system.proposal is not None
    held_out = torch.cat([data.split.val, data.split.test], dim=1)
    assert bool(system.proposal.known.mask(held_out[0], held_out[1]).all())


def test_an_oracle_is_validated_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, metrics = make_data(oracle=True), MetricsFile(tmp_path)
    system = make_plain(data.spec)
    trainer = fit(system, data, 2, callbacks=[metrics])
    found = read_metrics(tmp_path / NAME)
    assert found["fit"]["oracle"] is True
    assert found["fit"]["val"]
    assert [note["code"] for note in found["notes"]] == ["oracle"]
    assert "no honest result" in caplog.text
    path = tmp_path / "oracle.ckpt"
    trainer.save_checkpoint(path)
    with pytest.raises(DataError, match=r"data\.oracle: got true, and test"):
        make_trainer(2).test(system, data, verbose=False)
    with pytest.raises(DataError, match=r"data\.oracle: got true, and prediction"):
        make_trainer(2).predict(system, data)
    # Nor is what it has learned an honest run's
    calls: list[Any] = [make_trainer(2).test, make_trainer(2).validate, make_trainer(4).fit]
    for call in calls:
        with pytest.raises(CheckpointError, match="oracle: True there, False here"):
            call(system, make_data(), ckpt_path=str(path))


def test_an_honest_run_is_none(tmp_path: Path) -> None:
    data, metrics = make_data(), MetricsFile(tmp_path)
    fit(make_plain(data.spec), data, 1, callbacks=[metrics])
    assert data.avoided is data.known
    assert read_metrics(tmp_path / NAME)["fit"]["oracle"] is False
