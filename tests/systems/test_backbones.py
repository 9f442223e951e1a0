"""Every backbone trains plain and in MeBNS; SEAL's evaluation works in small blocks."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mebns_pl import (
    GCN,
    NCN,
    SEAL,
    EncoderDecoder,
    LinearGCN,
    LPFormer,
    ResidualMLPDecoder,
    StructureMLP,
    StructurePredictor,
)
from mebns_pl.mebns.bilevel import DirectionalEngine, HigherEngine
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.negatives.selectors.first import FirstSelector
from references.runs import equal, fit, make_data, make_mebns, make_plain, make_trainer, weights

BACKBONES = {
    "LPFormer": partial(
        LPFormer, encoder=partial(GCN, hidden_channels=16), hidden_channels=16, attention_channels=8, dropout=0.2
    ),
    "NCN": partial(NCN, encoder=partial(GCN, hidden_channels=16), hidden_channels=16, dropout=0.2),
    "Refined-GAE": partial(
        EncoderDecoder,
        encoder=partial(LinearGCN, hidden_channels=16, embed_nodes=True, dropout=0.2),
        decoder=partial(ResidualMLPDecoder, dropout=0.2),
    ),
    "structure": partial(StructurePredictor, encoder=partial(GCN, hidden_channels=16), hidden_channels=16, dropout=0.2),
    "structure alone": partial(StructureMLP, hidden_channels=16, dropout=0.2),
    "SEAL": partial(SEAL, num_pooled=10, hidden_channels=8, num_layers=2, dropout=0.2),
}
LEARNS = partial(torch.optim.Adam, lr=0.01)


@pytest.mark.parametrize("name", BACKBONES)
def test_plain_learns(name: str) -> None:
    data, sampler = make_data(), {"proposal": UniformProposal(), "selector": FirstSelector(2)}
    system = make_plain(data.spec, seed=1, predictor=BACKBONES[name], optimizer=LEARNS, **sampler)
    trainer = fit(system, data, epochs=20)
    assert trainer.callback_metrics["train/student_loss"] < 0.675  # of one that knows nothing it is log 2, 0.693
    assert trainer.test(system, data, verbose=False)[0]["test/auc"] > 0.7


@pytest.mark.parametrize("engine", [HigherEngine(), DirectionalEngine()], ids=lambda engine: type(engine).__name__)
@pytest.mark.parametrize("name", BACKBONES)
def test_mebns_moves_all_three(name: str, engine: HigherEngine | DirectionalEngine) -> None:
    data = make_data()
    system = make_mebns(data.spec, predictor=BACKBONES[name], engine=engine, optimizer=LEARNS)
    before = {part: weights(getattr(system, part)) for part in ("student", "teacher", "weight_net")}
    trainer = fit(system, data, epochs=3)
    for part, old in before.items():
        new = weights(getattr(system, part))
        assert not equal(new, old), part
        assert all(bool(value.isfinite().all()) for value in new.values()), part
    assert trainer.callback_metrics["val/auc"] > 0.5


def test_loader_workers_extract_subgraphs_and_change_nothing() -> None:
    runs = []
    for num_workers in (0, 1):
        data = make_data(num_workers=num_workers)
        system = make_plain(data.spec, predictor=BACKBONES["SEAL"])
        fit(system, data, epochs=1)
        runs.append(weights(system))
    assert equal(*runs)


def test_what_workers_send_has_no_part_of_the_graphs_arrays() -> None:
    """Sending a view would move the memory that kernels read, and a worker would crash now and then."""
    data = make_data()
    graph, pairs = data.train_graph, data.split.train[:, :4]
    inputs = BACKBONES["SEAL"](data.spec).prepare(graph, pairs)
    own = {tensor.untyped_storage().data_ptr() for tensor in (graph.indptr, graph.indices)}
    sent = (inputs.graph.indptr, inputs.graph.indices, *(vars(inputs.subgraphs)[name] for name in ("ptr", "indptr")))
    assert not own & {tensor.untyped_storage().data_ptr() for tensor in sent}


def test_small_blocks_score_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    system = make_plain(data.spec, predictor=BACKBONES["SEAL"])
    found, sizes = [], []
    for block in (2**11, 8):
        monkeypatch.setattr(SEAL, "score_block", block)
        trainer = make_trainer()
        found.append(trainer.validate(system, data, verbose=False)[0])
        sizes.append(sum(trainer.num_val_batches))
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert sizes[1] > sizes[0] == 1
