"""The auto-encoder learns, from nothing that is drawn, and refuses what it cannot train."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mebns_pl import (
    GCN,
    NCN,
    AutoEncoder,
    DotDecoder,
    EncoderDecoder,
    LinearGCN,
    MigrationMonitor,
    MLPDecoder,
    UniformProposal,
    Updates,
)
from mebns_pl.models.predictor import LinkPredictor
from mebns_pl.types import GraphSpec
from references.runs import adam, equal, fit, make_data, weights


def make_auto_encoder(spec: GraphSpec, encoder: type = GCN, **changes: object) -> AutoEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        predictor = partial(EncoderDecoder, encoder=partial(encoder, hidden_channels=16), decoder=DotDecoder)
        return AutoEncoder(spec, predictor, adam, **changes)


@pytest.mark.parametrize("encoder", [GCN, LinearGCN])
@pytest.mark.parametrize("hide_positives", [True, False])
def test_it_learns(hide_positives: bool, encoder: type) -> None:
    data, monitor = make_data(batch_size=30 if hide_positives else 1000), MigrationMonitor(probe_size=20)
    system = make_auto_encoder(data.spec, encoder, hide_positives=hide_positives)
    trainer = fit(system, data, epochs=20, callbacks=[monitor])
    assert trainer.test(system, data, verbose=False)[0]["test/auc"] > 0.7
    assert monitor.tracker.churns


def test_no_draw_of_negatives_matters() -> None:
    runs = []
    for proposal in (None, UniformProposal()):
        data = make_data()
        system = make_auto_encoder(data.spec, updates=Updates(accumulate=2, gradient_clip_norm=1.0))
        if proposal is not None:
            system.sampler = type(system.sampler)(proposal, num_candidates=4)
        fit(system, data, epochs=2)
        runs.append(weights(system))
    assert equal(*runs)


@pytest.mark.parametrize(
    ("predictor", "got"),
    [
        (NCN, "NCN"),
        (partial(EncoderDecoder, decoder=MLPDecoder), "EncoderDecoder with MLPDecoder"),
    ],
)
def test_refuses_other_predictors(predictor: type[LinkPredictor], got: str) -> None:
    with pytest.raises(
        TypeError, match=f"predictor: an AutoEncoder needs an EncoderDecoder with DotDecoder, got {got}"
    ):
        AutoEncoder(GraphSpec(3), predictor)
