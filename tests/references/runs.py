"""Small runs for tests of data module, systems and callbacks: a graph, its data, systems, and a silent trainer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Adam

from mebns_pl import (
    GCN,
    EncoderDecoder,
    LinkPredictor,
    MeBNS,
    MigrationMonitor,
    MLPDecoder,
    OwnLearning,
    Plain,
    Schedule,
)
from mebns_pl.cli import main as cli
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.split import SplitFractions, canonical_edges
from mebns_pl.evaluation.negatives import RandomNegatives
from mebns_pl.graph.measures.pagerank import PersonalizedPageRank
from mebns_pl.mebns.filters.teacher import TeacherFilter
from mebns_pl.mebns.std_generator import StdGenerator
from mebns_pl.mebns.umd_collector import UMDCollector
from mebns_pl.mebns.weight_net import WeightNet
from mebns_pl.negatives.proposals.by_measure import ProximityProposal
from mebns_pl.negatives.proposals.mixture import MixtureProposal
from mebns_pl.negatives.proposals.uniform import UniformProposal
from mebns_pl.negatives.sampler import Sampler
from mebns_pl.negatives.selectors.hardest import HardestSelector
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.types import EdgeSplit, GraphSpec

NUM_NODES = 41
FRACTIONS = SplitFractions(val=0.1, test=0.1, meta=0.15)


def make_loaded(features: bool = True) -> LoadedGraph:
    """Four communities of ten nodes, and node 40 without an edge; always the same.

    Half the pairs within a community and one in forty of the others are edges. Features tell the community, with noise.
    """
    generator = torch.Generator().manual_seed(4)
    pairs = torch.combinations(torch.arange(40)).t()
    chance = torch.where(pairs[0] // 10 == pairs[1] // 10, 0.5, 0.025)
    edges = pairs[:, torch.rand(pairs.shape[1], generator=generator) < chance]
    community = torch.nn.functional.one_hot(torch.arange(NUM_NODES) // 10, 5).float()
    x = community + 0.3 * torch.randn(NUM_NODES, 5, generator=generator)
    return LoadedGraph("communities", edges, [f"node {i}" for i in range(NUM_NODES)], x if features else None)


def write_edges(path: Path) -> LoadedGraph:
    """Writes the edges of :func:`make_loaded` as a table of names."""
    loaded = make_loaded()
    edges = [[loaded.node_names[end] for end in edge] for edge in loaded.edges.t().tolist()]
    pd.DataFrame(edges, columns=["source", "target"]).to_csv(path, index=False)
    return loaded


def near_structure() -> ProximityProposal:
    """The six nodes nearest by PageRank."""
    return ProximityProposal(PersonalizedPageRank(), top=6)


def make_data(loaded: LoadedGraph | None = None, **changes: Any) -> LinkDataModule:
    """A data module on :func:`make_loaded`: three steps an epoch."""
    options: dict[str, Any] = {
        "split": FRACTIONS,
        "structure": near_structure(),
        "eval_negatives": RandomNegatives(8),
        "batch_size": 30,
    }
    data = LinkDataModule(**{**options, **changes})
    data.loaded = make_loaded() if loaded is None else loaded
    return data


def predictor(spec: GraphSpec) -> LinkPredictor:
    """A small GCN with dropout and an MLP decoder with dropout."""
    return EncoderDecoder(
        spec, partial(GCN, hidden_channels=16, dropout=0.1), partial(MLPDecoder, hidden_channels=16, dropout=0.1)
    )


adam: Callable[..., torch.optim.Optimizer] = partial(Adam, lr=0.03)


def make_sampler(**changes: Any) -> Sampler:
    """DNS: three of five candidates, which are three quarters uniform and one structural."""
    proposal = MixtureProposal([UniformProposal(), near_structure()], [0.75, 0.25])
    return Sampler(**{"proposal": proposal, "num_candidates": 5, "selector": HardestSelector(3), **changes})


def with_sampler(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a system, with those of its sampler gathered in one."""
    names = ("proposal", "num_candidates", "selector", "weighting")
    return {
        "sampler": make_sampler(**{name: options[name] for name in names if name in options}),
        **{name: value for name, value in options.items() if name not in names},
    }


def make_plain(spec: GraphSpec, seed: int = 0, **changes: Any) -> Plain:
    """A plain system (DNS) with initial weights named by ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Plain(spec, **with_sampler({"predictor": predictor, "optimizer": adam, **changes}))


def make_mebns(spec: GraphSpec, seed: int = 0, **changes: Any) -> MeBNS:
    """A MeBNS system with one epoch of warm-up and initial weights named by ``seed``."""
    options = {
        "predictor": predictor,
        "optimizer": adam,
        "teacher_optimizer": adam,
        "weight_net_optimizer": adam,
        # Sharper than the defaults, so that a few epochs show filter and weights
        "weight_net": partial(WeightNet, max_score=0.3),
        "filter": TeacherFilter(drop_easy=0.5, drop_top=0.0),
        "std_generator": StdGenerator(num_negatives=2),
        "collector": UMDCollector(num_passes=3, batch_size=8, refresh_epochs=2),
        "schedule": Schedule(warmup=1),
        "teaching": OwnLearning(epochs=None),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MeBNS(spec, **with_sampler({**options, **changes}))


MAKE: dict[str, Callable[..., AbstractLinkSystem]] = {"Plain": make_plain, "MeBNS": make_mebns}


ALL_WARM_UP = pytest.mark.filterwarnings("ignore:schedule.warmup.*all of it is warm-up")
"""Marks tests whose runs end before MeBNS begins, which is said in a warning."""


def make_trainer(epochs: int = 3, callbacks: list[Callback] | None = None, **changes: Any) -> Trainer:
    """A silent trainer on one CPU that validates after every epoch and writes nothing by itself."""
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": epochs,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,
    }
    return Trainer(**{**options, "callbacks": callbacks, **changes})


def fit(
    system: LightningModule,
    data: LinkDataModule,
    epochs: int = 3,
    callbacks: list[Callback] | None = None,
    ckpt_path: str | None = None,
    **changes: Any,
) -> Trainer:
    """Fits, and gives the trainer back."""
    trainer = make_trainer(epochs, callbacks, **changes)
    trainer.fit(system, data, ckpt_path=ckpt_path)
    return trainer


def weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's parameters and buffers."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether both hold the same names with bit-identical tensors."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def replace_held_out(split: EdgeSplit, val: Tensor, test: Tensor) -> EdgeSplit:
    """The same training and meta edges with other held-out ones: what a training run must not notice.

    Args:
        split: any split.
        val: ``(2, n)`` int64, pairs of nodes that are no training or meta edges.
        test: ``(2, m)`` int64, likewise.

    Raises:
        DataError: a self-loop, a repeated pair, or a training or meta edge among the pairs.
    """
    val, test = canonical_edges(val, "val"), canonical_edges(test, "test")
    canonical_edges(torch.cat([split.observed, val, test], dim=1), "val, test")
    return replace(split, val=val, test=test)


# --- everything that training can see or has made, by name ----------------------------------------------------------


def tensors_of(value: object, name: str) -> dict[str, Tensor]:
    """Every tensor in an object, through attributes, lists, tuples and dicts, by where it stands."""
    if isinstance(value, Tensor):
        if value.layout == torch.strided:
            return {name: value.detach().clone()}
        return {name: value.detach().to_dense()}
    if isinstance(value, np.ndarray):
        return {name: torch.from_numpy(value.copy())}
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, (list, tuple)):
        parts = list(enumerate(value))
    elif is_dataclass(value):
        parts = [(f.name, getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")]
    elif type(value).__module__.startswith("mebns_pl"):
        parts = list(vars(value).items())
    elif isinstance(value, (int, float)):
        return {name: torch.tensor(float(value), dtype=torch.float64)}
    else:
        return {}
    return {key: tensor for part, item in parts for key, tensor in tensors_of(item, f"{name}.{part}").items()}


def fingerprint(data: LinkDataModule, system: AbstractLinkSystem) -> dict[str, Tensor]:
    """All that held-out edges must not touch, after a fit of ``system`` on ``data``.

    The training graph, the known-edge mask, the tables of both proposals, the batches of several steps and epochs, the
    probe, the meta set, and the weights and optimizer states of every learner.
    """
    nodes = torch.arange(data.loaded.num_nodes)
    steps = data.train_steps(system.needs)
    found: dict[str, Tensor] = {}
    for name, value in {
        "graph": data.train_graph,
        "known": data.known.mask(nodes[:, None], nodes[None, :]),
        "legal": data.known.num_legal(nodes),
        "proposal": system.sampler.proposal,
        "structure": data.structure,
        "batches": [steps[epoch, step] for epoch in (0, 1, 5) for step in range(len(steps))],
        "probe": data.probe(60),
        "meta": getattr(system, "meta_set", None),
        "score": system.score(torch.cartesian_prod(nodes, nodes).t()),
        "weights": dict(system.state_dict()),
        "optimizers": [o.state_dict()["state"] for o in system.trainer.optimizers],
    }.items():
        found |= tensors_of(value, name)
    return found


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> set[str]:
    """The parts (the names up to the first dot) in which two fingerprints are not bit-identical."""
    both = a.keys() & b.keys()
    unequal = (a.keys() ^ b.keys()) | {name for name in both if not torch.equal(a[name], b[name])}
    return {name.split(".")[0] for name in unequal}


def probe_monitor(**options: Any) -> MigrationMonitor:
    """A migration monitor with a small probe."""
    return MigrationMonitor(**{"probe_size": 40, "lags": (1, 2), **options})


@functools.cache
def command_line_parser(stage: str | None = None) -> ArgumentParser:
    """The parser of the command line, to parse with only: nothing is instantiated and nothing runs.

    That of one ``stage`` alone, as ``fit``, takes half as long: its options are looked at once, and not twice.
    """
    if stage is not None:
        (stages,) = (action for action in command_line_parser()._actions if action.dest == "subcommand")
        return stages.choices[stage]
    state = torch.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.MeBNSCLI, "instantiate_classes", lambda self: None)
        patch.setattr(cli.MeBNSCLI, "after_instantiate_classes", lambda self: None)
        patch.setattr(cli.MeBNSCLI, "_run_subcommand", lambda self, name: None)
        patch.setattr(cli.MeBNSCLI, "after_instantiate_classes", lambda self: None)
        parser = cli.main(["fit"]).parser
    torch.set_rng_state(state)  # the command line seeds the global generator
    return parser


def pairs_of(pairs: Tensor) -> set[tuple[int, ...]]:
    """The pairs, each with its lower number first."""
    return {tuple(sorted(pair)) for pair in pairs.flatten(1).t().tolist()}


def drawn_pairs(batch: TrainBatch) -> set[tuple[int, ...]]:
    """A batch's legal candidates and the teacher's legal negatives, with their anchors."""
    drawn: set[tuple[int, ...]] = set()
    for nodes, mask in ((batch.candidates, batch.candidate_mask), (batch.teacher_negatives, batch.teacher_mask)):
        anchors = batch.positives[0][:, None].expand_as(nodes)
        drawn |= pairs_of(torch.stack([anchors[mask], nodes[mask]]))
    return drawn
