"""Training on sampled neighbourhoods: equal to whole graphs where nothing is left to chance, and the same on ranks."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.optim import SGD, Adam, RMSprop

from mebns_pl import GAT, GCN, SAGE, EncoderDecoder, LinkPredictor, MeBNS, MLPDecoder, Plain, PredictionWriter
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.graph.measures.neighbors import CommonNeighbors
from mebns_pl.graph.sparse import Features
from mebns_pl.mebns.bilevel import DirectionalEngine, HigherEngine
from mebns_pl.models import batching as batching_module
from mebns_pl.models import layerwise
from mebns_pl.models.batching import AbstractBatching, FullGraph, NeighborSampling
from mebns_pl.models.measure_predictor import MeasurePredictor
from mebns_pl.systems.updates import Updates
from mebns_pl.types import GraphSpec
from references.effort import some
from references.processes import in_processes
from references.runs import MAKE, equal, fit, make_data, make_loaded, make_mebns, make_trainer, probe_monitor, weights

SMALL = NeighborSampling(fan_out=2, num_hops=2)


def loaded(kind: str = "dense") -> LoadedGraph:
    """The communities with double features."""
    graph = make_loaded(kind != "none")
    x = None if graph.x is None else graph.x.double()  # type: ignore[union-attr]
    if kind == "sparse":
        assert x is not None
        x = Features.of((x * (x > 0.3)).to_sparse())
    return LoadedGraph(graph.name, graph.edges, graph.node_names, x)


def predictor(spec: GraphSpec, encoder: Any = GCN) -> LinkPredictor:
    return EncoderDecoder(
        spec,
        partial(encoder, hidden_channels=8, num_layers=2, dropout=0.2),
        partial(MLPDecoder, hidden_channels=8, dropout=0.2),
    )


def outcome(
    batching: AbstractBatching,
    system: str = "MeBNS",
    kind: str = "dense",
    encoder: Any = GCN,
    num_workers: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    """Everything that three epochs, a test and a prediction give."""
    data = make_data(loaded(kind), num_workers=num_workers)
    model = partial(predictor, encoder=encoder)
    learner = MAKE[system](data.spec, predictor=model, batching=batching, **changes).double()
    trainer = fit(learner, data, callbacks=[probe_monitor()])
    metrics = dict(trainer.callback_metrics)
    trainer.test(learner, data, verbose=False)
    metrics |= trainer.callback_metrics
    nodes = torch.arange(data.loaded.num_nodes)
    scores = torch.cat([logits for _, logits in trainer.predict(learner, data)])
    return {
        "weights": weights(learner),
        "metrics": {name: float(value) for name, value in metrics.items()},
        "scores": scores,
        "score": learner.score(torch.cartesian_prod(nodes, nodes).t()),
        "meta": learner.meta_set.pairs if isinstance(learner, MeBNS) else None,
    }


def assert_close(a: dict[str, Any], b: dict[str, Any]) -> None:
    for name in ("weights", "score", "scores"):
        torch.testing.assert_close(a[name], b[name], rtol=1e-10, atol=1e-10)
    assert a["metrics"] == pytest.approx(b["metrics"], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("system", "kind", "encoder"),
    some(
        [("MeBNS", "dense", GCN), ("MeBNS", "sparse", GAT), ("MeBNS", "dense", SAGE), ("Plain", "sparse", GCN)],
        [("MeBNS", "sparse", GAT), ("MeBNS", "dense", SAGE), ("Plain", "sparse", GCN)],
    ),
)
def test_every_neighbor_is_the_whole_graph(system: str, kind: str, encoder: Any) -> None:
    whole = outcome(FullGraph(), system, kind, encoder)
    part = outcome(NeighborSampling(fan_out=100, num_hops=2), system, kind, encoder)
    assert_close(part, whole)
    if system == "MeBNS":
        assert torch.equal(part["meta"], whole["meta"])
    sampled = outcome(SMALL, system, kind, encoder)
    assert not equal(sampled["weights"], whole["weights"])


def test_large_graphs_are_embedded_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta set, validation, test, prediction and the probe: no pass is over all nodes."""
    whole = outcome(SMALL)
    monkeypatch.setattr(batching_module, "RESTRICTED", 1)
    monkeypatch.setattr(layerwise, "embed_layerwise", None)
    part = outcome(SMALL)
    assert_close(part, whole)
    assert torch.equal(part["meta"], whole["meta"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_embedding_tables_are_trained_as_in_the_whole_graph(accumulate: int) -> None:
    """By SGD without lookahead: row by row and all at once are then the same."""
    options = {"optimizer": partial(SGD, lr=0.5), "updates": Updates(accumulate)}
    whole = outcome(FullGraph(), "Plain", "none", SAGE, **options)
    part = outcome(NeighborSampling(fan_out=100, num_hops=2), "Plain", "none", SAGE, **options)
    assert_close(part, whole)


def test_both_engines_keep_tables_constant_in_the_lookahead() -> None:
    higher = outcome(SMALL, "MeBNS", "none", SAGE, engine=HigherEngine())
    directional = outcome(SMALL, "MeBNS", "none", SAGE, engine=DirectionalEngine())
    torch.testing.assert_close(directional["weights"], higher["weights"], rtol=1e-7, atol=1e-9)


class Rows(Callback):
    """Which rows of the student's table each step has met, and which have changed."""

    def __init__(self) -> None:
        self.met: list[set[int]] = []
        self.moved: list[set[int]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.met.append(set(batch.inputs.graph.node_ids.tolist()))
        self.before = weights(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        for learner in ("student", "teacher"):
            name = f"{learner}.encoder.linears.0.weight"
            changed = (pl_module.state_dict()[name] != self.before[name]).any(dim=1)
            self.moved.append(set(changed.nonzero().flatten().tolist()))


def test_only_the_rows_of_a_batch_move() -> None:
    data, rows = make_data(loaded("none"), batch_size=2), Rows()
    system = MAKE["MeBNS"](data.spec, predictor=predictor, batching=NeighborSampling(2, 2)).double()
    trainer = fit(system, data, callbacks=[rows], epochs=2, limit_train_batches=4)
    for step, met in enumerate(rows.met):
        for moved in rows.moved[2 * step : 2 * step + 2]:
            assert moved
            assert moved <= met
    assert max(len(met) for met in rows.met) < data.loaded.num_nodes
    kinds = [type(optimizer).__name__ for optimizer in trainer.optimizers]
    assert kinds == ["Adam", "Adam", "Adam", "SparseAdam", "SparseAdam"]


def test_a_resumed_run_goes_on_with_its_tables(tmp_path: Path) -> None:
    def run(epochs: int, ckpt_path: str | None = None) -> dict[str, Tensor]:
        data = make_data(loaded("none"))
        seed = 0 if ckpt_path is None else 5
        system = make_mebns(data.spec, seed, predictor=predictor, batching=SMALL).double()
        last = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        fit(system, data, epochs, [last], ckpt_path, enable_checkpointing=True)
        return weights(system)

    run(2)
    resumed = run(4, str(tmp_path / "last.ckpt"))
    assert equal(resumed, run(4))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (partial(Adam, weight_decay=0.1), r"weight_decay moves every row of an embedding table; it must be 0, got 0.1"),
        (partial(SGD, momentum=0.9), r"momentum moves every row of an embedding table; it must be 0, got 0.9"),
        (RMSprop, r"trained row by row by SGD, Adam, AdamW, got RMSprop"),
    ],
)
def test_optimizers_that_tables_refuse(optimizer: Any, message: str) -> None:
    data = make_data(loaded("none"))
    with pytest.raises(ValueError, match=message):
        fit(Plain(data.spec, predictor, optimizer=optimizer, batching=SMALL), data)


def test_loader_workers_change_nothing() -> None:
    one, two = outcome(SMALL), outcome(SMALL, num_workers=2)
    assert equal(one["weights"], two["weights"])


def test_batches_hold_local_graphs_without_target_edges() -> None:
    data = make_data(batch_size=2)
    batch = data.train_steps(make_mebns(data.spec, batching=SMALL).needs)[2, 1]
    graph = batch.inputs.graph
    assert graph.num_nodes < data.loaded.num_nodes
    assert int(graph.indptr.diff().max()) <= 2
    assert torch.equal(graph.x, data.loaded.x[graph.node_ids])
    ends = graph.node_ids[graph.edge_index]
    gone = {tuple(pair) for pair in torch.cat([batch.union_positives, batch.union_positives.flip(0)], 1).T.tolist()}
    assert not gone & {tuple(pair) for pair in ends.T.tolist()}
    assert torch.equal(graph.node_ids[batch.inputs.pairs][:, : batch.positives.shape[1]], batch.positives)


@pytest.mark.parametrize(
    ("make", "batching", "message"),
    [
        (
            partial(MeasurePredictor, measure=CommonNeighbors()),
            SMALL,
            "batching: NeighborSampling needs an EncoderDecoder, got MeasurePredictor",
        ),
        (
            predictor,
            NeighborSampling(num_hops=1),
            r"batching.num_hops: expected at least the encoder's 2 layers, got 1",
        ),
    ],
)
def test_refuses_at_setup(make: Any, batching: AbstractBatching, message: str) -> None:
    data = make_data()
    with pytest.raises((TypeError, ValueError), match=message):
        make_trainer().validate(Plain(data.spec, predictor=make, batching=batching), data, verbose=False)


def test_refuses_64_bits_all_over() -> None:
    data = make_data()
    trainer = make_trainer(precision="64-true")
    with pytest.raises(ValueError, match="NeighborSampling hands features out as they are stored"):
        trainer.validate(Plain(data.spec, predictor, batching=SMALL), data, verbose=False)


# --- two ranks ------------------------------------------------------------------------------------------------------


def _train(devices: int, kind: str, path: str) -> None:
    torch.set_num_threads(1)
    data: LinkDataModule = make_data(loaded(kind), batch_size=40)
    make = partial(predictor, encoder=GCN if kind == "dense" else SAGE)
    system = MAKE["MeBNS"](data.spec, predictor=make, batching=SMALL)
    writer = PredictionWriter(path.replace(".pt", ".csv"), top_k=30)
    strategy = "auto" if devices == 1 else "ddp"
    trainer = fit(system.double(), data, epochs=2, callbacks=[writer], devices=devices, strategy=strategy)
    state: dict[str, Tensor] = weights(system)
    trainer.predict(system, data, return_predictions=False)
    if trainer.is_global_zero:
        torch.save(state, path)


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
    }
    for kind in ("dense", "none"):
        _train(2, kind, f"{folder}/two-{kind}.pt")


def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    in_processes(_rank, port, str(tmp_path), ranks=2)
    for kind in ("dense", "none"):
        _train(1, kind, f"{tmp_path}/one-{kind}.pt")
        one, two = (torch.load(tmp_path / f"{name}-{kind}.pt") for name in ("one", "two"))
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-10)
