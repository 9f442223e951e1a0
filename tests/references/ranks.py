"""Whole Lightning runs on one rank of several: run by ``tests/distributed/test_ranks.py`` in processes of its own."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed
import torch.multiprocessing
from lightning.pytorch import Callback, LightningModule, Trainer

from mebns_pl import (
    GCN,
    BayesianPersonalizedRanking,
    BoardLogger,
    DotDecoder,
    EncoderDecoder,
    EvaluationCard,
    LastCheckpoint,
    LinkDataModule,
    MeanTeacher,
    MeBNS,
    MetricsFile,
    MissingEdgeFilter,
    NearestPool,
    NeighborSampling,
    OwnLearning,
    PredictionPairs,
    PredictionWriter,
    ProbeRecord,
    Projector,
    RandomVeto,
    Rounds,
    Schedule,
    SoftmaxCrossEntropy,
    StudentFilter,
    TwoHopPool,
    UnionPool,
    Updates,
    WeightNet,
)
from mebns_pl.distributed.replicas import ReplicaError
from mebns_pl.models import batching, layerwise
from mebns_pl.models.layers import parted_of
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.types import GraphSpec
from references.processes import in_processes
from references.runs import MAKE, fit, make_data, make_loaded, make_mebns, probe_monitor, weights


def whole_run(ranks: int, folder: Path) -> dict[str, Any]:
    """Three epochs of union batches of 23 positives, two of them an update, then test and prediction.

    Ranks hold unequal parts of the batches and of the evaluation sets. In float64: what ranks sum in another order is
    then far below what is compared.
    """
    data = make_data(make_loaded(features=False), batch_size=23)
    system = make_mebns(
        data.spec, schedule=Schedule(warmup=1), updates=Updates(accumulate=2, gradient_clip_norm=1.0)
    ).double()
    links = PredictionWriter(str(folder / "links.csv"), top_k=30)
    file, card = MetricsFile(folder), EvaluationCard(show=False)
    card.folder = folder
    callbacks = [probe_monitor(), links, file, card]
    trainer = fit(system, data, 3, callbacks, devices=ranks, strategy="ddp" if ranks > 1 else "auto")
    found = {"weights": weights(system), "steps": trainer.global_step}
    metrics = dict(trainer.callback_metrics)
    trainer.test(system, data, verbose=False)
    metrics |= trainer.callback_metrics
    trainer.predict(system, data, return_predictions=False)
    assert system.meta_set is not None
    found["meta"] = {name: getattr(system.meta_set, name) for name in ("pairs", "mean", "std")}
    return {**found, "metrics": {name: float(value) for name, value in metrics.items()}}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "mean teacher, missing edges": lambda: {
        "teaching": MeanTeacher(decay=0.9),
        "filter": MissingEdgeFilter(missing=5.0, drop_easy=0.2),
    },
    "rounds, the student's band, what changes, a slow weight net": lambda: {
        "teaching": Rounds(length=2),
        "filter": StudentFilter(0.4, 0.2, missing=None),
        "weight_net": partial(WeightNet, ["change", "rank"]),
        "updates": Updates(accumulate_weight_net=2),
    },
    "random veto, ranking losses": lambda: {
        "filter": RandomVeto(0.4),
        "loss": BayesianPersonalizedRanking(),
        "meta_loss": SoftmaxCrossEntropy(),
        "teaching": OwnLearning(epochs=None),
    },
}
"""Plug-ins that differ from those of :func:`whole_run`."""


def run_of_parts(ranks: int, folder: Path) -> dict[str, Any]:
    """Three epochs with each of :data:`PARTS`, a fresh teacher and meta set among them."""
    found = {}
    for name, options in PARTS.items():
        data = make_data(make_loaded(features=False), batch_size=23)
        system = make_mebns(data.spec, schedule=Schedule(warmup=1), **options()).double()
        fit(system, data, 3, devices=ranks, strategy="ddp" if ranks > 1 else "auto")
        found[name] = weights(system)
    return found


class Flip(Callback):
    """Changes one number on one rank, once."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, MeBNS)
        if trainer.global_rank == self.rank and (trainer.current_epoch, batch_idx) == (1, 2):
            state = trainer.optimizers[2].state[pl_module.weight_net.hidden.bias]  # type: ignore[index,union-attr]
            state["exp_avg_sq"] *= 1 + 1e-6


def corrupted_run(ranks: int, folder: Path) -> dict[str, Any]:
    """One number of an optimizer's state changes on the last rank."""
    data = make_data()
    system = make_mebns(data.spec, schedule=Schedule(warmup=0))
    try:
        trainer = fit(system, data, 4, [Flip(ranks - 1)], devices=ranks, strategy="ddp")
    except ReplicaError as error:
        return {"error": str(error), "epoch": system.current_epoch}
    return {"error": None, "epoch": trainer.current_epoch}


PARTED = NeighborSampling(fan_out=3, num_hops=2, shard_tables=True)
PARTED_PREDICTOR = partial(EncoderDecoder, encoder=partial(GCN, hidden_channels=8, dropout=0.1), decoder=DotDecoder)


def parted_system(kind: str, spec: GraphSpec, batching: NeighborSampling = PARTED) -> AbstractLinkSystem:
    """A system in float64 with tables of embeddings; on nodes without features."""
    changes = {"schedule": Schedule(warmup=0)} if kind == "MeBNS" else {}
    return MAKE[kind](spec, predictor=PARTED_PREDICTOR, batching=batching, **changes).double()


def parted_data() -> LinkDataModule:
    """Batches of 23, of which ranks have unequal parts, and the last one leaves ranks without any."""
    return make_data(make_loaded(features=False), batch_size=23)


def parted_run(ranks: int, folder: Path, epochs: int = 1, begun: Path | None = None) -> dict[str, Any]:
    """An epoch, a test and a prediction of each system, with tables parted among the ranks; or resumed.

    Ranks look such tables up together, in blocks, as many on each; embeddings are also written for TensorBoard.
    """
    found = {}
    for kind in MAKE:
        data = parted_data()
        system = parted_system(kind, data.spec)
        last = None if begun is None else str(begun / kind / "last.ckpt")
        data.pairs = PredictionPairs(pool=UnionPool([TwoHopPool(), NearestPool(top=5)]))
        links = PredictionWriter(None, top_k=20)
        record = ProbeRecord()
        last_checkpoint = LastCheckpoint(folder / kind, minutes=1e-9)  # also within an epoch
        callbacks = [probe_monitor(), record, Projector(frames=1), links, last_checkpoint]
        trainer = fit(
            system, data, epochs, callbacks, last, devices=ranks, strategy="ddp" if ranks > 1 else "auto",
            enable_checkpointing=True, default_root_dir=folder, logger=BoardLogger(folder / "logs", name=kind),
        )  # fmt: skip
        metrics = dict(trainer.callback_metrics)
        trainer.test(system, data, verbose=False)
        metrics |= trainer.callback_metrics
        with patch.object(batching, "RESTRICTED", 1), patch.object(layerwise, "NODE_BLOCK", 4):
            trainer.predict(system, data, return_predictions=False)
        assert links.table is not None
        found[kind] = {
            "weights": weights(system),
            "parted": list(parted_of(system)),
            "links": links.table["logit"].tolist(),
            "counts": torch.stack(record.counts),
            "metrics": {name: float(value) for name, value in metrics.items() if name.startswith(("val/", "test/"))},
        }
    return found


def resumed_run(ranks: int, folder: Path) -> dict[str, Any]:
    """Goes on with the checkpoints of ``parted_run`` on two ranks."""
    return parted_run(ranks, folder, 2, folder.parent / "parted-2")


RUNS = {
    "whole": whole_run,
    "parts": run_of_parts,
    "corrupted": corrupted_run,
    "parted": parted_run,
    "resumed": resumed_run,
}


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def worker(rank: int, folder: str, ports: dict[int, int], plan: Sequence[tuple[int, str]]) -> None:
    """Does the runs of each number of ranks in turn, where this rank takes part, and saves what came out."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for size in dict.fromkeys(size for size, _ in plan):
        if rank >= size:
            continue
        names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[size]), "WORLD_SIZE": str(size)}
        os.environ |= {**names, "NODE_RANK": "0", "LOCAL_RANK": str(rank), "RANK": str(rank)}
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        for name in [name for ranks, name in plan if ranks == size]:
            place = Path(folder) / f"{name}-{size}"
            place.mkdir(exist_ok=True)
            torch.save(RUNS[name](size, place), place / f"{rank}.pt")
        torch.distributed.destroy_process_group()


def launch(_: int, folder: str, ports: dict[int, int], plan: Sequence[tuple[int, str]]) -> None:
    """Forks the ranks off a fresh process: imports are paid once, and the tests' own process is not safe to fork."""
    size = max(size for size, _ in plan)
    torch.multiprocessing.start_processes(worker, args=(folder, ports, plan), nprocs=size, start_method="fork")


def on_ranks(folder: Path, plan: Sequence[tuple[int, str]]) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """What every rank found, by (number of ranks, name of the run)."""
    ports = {size: free_port() for size in dict.fromkeys(size for size, _ in plan)}
    in_processes(launch, str(folder), ports, plan)
    return {
        (size, name): [torch.load(folder / f"{name}-{size}" / f"{rank}.pt", weights_only=True) for rank in range(size)]
        for size, name in plan
    }
