"""Systems with an adaptive proposal: their candidates, checkpoints and resume, two ranks; and every recipe in both."""

from __future__ import annotations

import itertools
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from mebns_pl import (
    AbstractAdaptiveProposal,
    CacheProposal,
    ChainProposal,
    FirstSelector,
    GeneratorProposal,
    MeBNS,
    Plain,
    Schedule,
    SelfAdversarialWeighting,
    SoftmaxSelector,
)
from mebns_pl.data.train_batch import TrainBatch
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.graph.known_edges import KnownEdges
from mebns_pl.systems.adaptive import adapted
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.types import GraphSpec
from references.processes import in_processes
from references.runs import MAKE, command_line_parser, equal, fit, make_data, make_loaded, replace_held_out, weights

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted(path.stem for path in (CONFIGS / "sampler").glob("*.yaml"))
ENCODERS = ("gcn", "gat", "sage")
ADAPTIVE = {
    "cache": partial(CacheProposal, size=6, num_new=4),
    "chain": partial(ChainProposal, num_chains=4, num_steps=2),
    "generator": partial(GeneratorProposal, pool=6, channels=4, lr=0.05),
}


def make(kind: str, spec: GraphSpec, name: str, **changes: Any) -> AbstractLinkSystem:
    return MAKE[kind](spec, proposal=ADAPTIVE[name](), **changes)


class Watch(Callback):
    """Keeps the pairs that were picked, and checks that no known edge is among the step's negatives."""

    def __init__(self) -> None:
        self.picked: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for pairs in (outputs["picked"], outputs["unpicked"]):
            assert not bool(trainer.datamodule.known.mask(*pairs).any())
        self.picked.append(outputs["picked"])


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_candidates_come_from_the_adaptive_proposal(kind: str, name: str) -> None:
    data, watch = make_data(), Watch()
    system = make(kind, data.spec, name)
    start = weights(system.proposal)
    fit(system, data, 2, [watch])
    assert not equal(start, weights(system.proposal))
    assert all(pairs.shape[1] for pairs in watch.picked)
    # The static candidates of the same run are others
    other = Watch()
    fit(MAKE[kind](data.spec), make_data(), 2, [other])
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(watch.picked, other.picked, strict=True))


def test_a_step_sees_the_student_before_it_moves() -> None:
    """`propose` and `update` are given the same logits, without dropout, of the graph without the batch's positives."""
    seen: list[tuple[Tensor, Tensor]] = []

    class Seeing(AbstractAdaptiveProposal):
        def propose(self, anchors, rows, num_candidates, score, key) -> Tensor:
            nodes = (anchors[:, None] + 1 + torch.arange(num_candidates)) % 41
            seen.append((nodes, score(nodes)))
            return nodes

        def update(self, anchors, rows, candidates, score, gather, key) -> None:
            seen.append((candidates, score(candidates)))

    data = make_data()
    system = MAKE["Plain"](data.spec, proposal=Seeing())
    steps = {}

    class Expect(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: TrainBatch, batch_idx: int
        ) -> None:
            graph = data.train_graph.without(batch.union_positives)
            nodes = (batch.positives[0][:, None] + 1 + torch.arange(5)) % 41
            pairs = torch.stack([batch.positives[0][:, None].expand_as(nodes), nodes]).flatten(1)
            with torch.no_grad():
                steps[batch_idx] = system.student(system.student.prepare(graph, pairs)).view(nodes.shape)

    fit(system, data, 1, [Expect()])
    after = len(steps)  # the steps are looked at once more after the fit, without an update
    assert len(seen) == 2 * len(steps) + after
    for number, expected in steps.items():
        for _, logits in seen[2 * number : 2 * number + 2]:
            assert not logits.requires_grad
            torch.testing.assert_close(logits, expected)


def test_without_an_adaptive_proposal_nothing_changes() -> None:
    data = make_data()
    system = MAKE["Plain"](data.spec)
    fit(system, data, 1)
    batch = data.train_steps(system.needs)[0, 0]
    same, update = adapted(system, batch, data.key)
    assert same is batch
    update()


def test_initial_weights_do_not_depend_on_it() -> None:
    spec = make_data().spec
    for kind in ("Plain", "MeBNS"):
        system = weights(make(kind, spec, "generator"))
        assert equal(
            {name: value for name, value in system.items() if not name.startswith("proposal.")},
            weights(MAKE[kind](spec)),
        )


@pytest.mark.parametrize("name", ADAPTIVE)
def test_held_out_edges_have_no_influence(name: str) -> None:
    """With other held-out edges the state and the weights are the same to the last bit."""
    held = []
    for seed in (0, 1):
        data = make_data()
        split, num_val = data.split, data.split.val.shape[1]
        if seed:
            everything = torch.combinations(torch.arange(data.loaded.num_nodes)).t()
            free = everything[:, ~KnownEdges(data.full_graph).mask(*everything)]
            data = make_data()
            data.split = replace_held_out(split, free[:, :num_val], free[:, num_val : num_val + split.test.shape[1]])
        system = make("Plain", data.spec, name)
        fit(system, data, 2)
        held.append(weights(system))
    assert equal(*held)


@pytest.mark.parametrize("cuts", [(0, 3, 7), (0, 0, 7)])
def test_gathered_rows_are_the_whole(cuts: tuple[int, ...]) -> None:
    scores = torch.randn(7, generator=torch.Generator().manual_seed(0))

    class Adding(SingleProcess):
        """Adds what the other ranks would have sent."""

        def __init__(self, others: Tensor) -> None:
            self.others = others

        def sum(self, value: Tensor) -> Tensor:
            return value + self.others

    for value in (torch.arange(14).view(7, 2), scores):
        for start, stop in itertools.pairwise(cuts):
            others = value.clone()
            others[start:stop] = 0
            assert torch.equal(Adding(others).rows_of_all(value[start:stop], start, 7), value)


# --- resume ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
def test_a_resumed_run_equals_an_uninterrupted_one(kind: str, name: str, tmp_path: Path) -> None:
    data = make_data()
    whole = make(kind, data.spec, name)
    fit(whole, data, 3)
    last = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    fit(make(kind, data.spec, name), make_data(), 2, [last], enable_checkpointing=True)
    found = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert any(part.startswith("proposal.") for part in found["state_dict"])
    resumed = make(kind, data.spec, name, seed=7)
    fit(resumed, make_data(), 3, ckpt_path=str(tmp_path / "last.ckpt"))
    assert equal(weights(whole), weights(resumed))


# --- two ranks ------------------------------------------------------------------------------------------------------


def _train(devices: int, folder: str, names: tuple[str, ...]) -> None:
    """Union batches of 23 positives in float64: ranks hold unequal parts."""
    torch.set_num_threads(1)
    for name in names:
        data = make_data(make_loaded(features=False), batch_size=23)
        kind = "MeBNS" if name == "cache" else "Plain"
        changes: dict[str, Any] = {"selector": FirstSelector(3), "weighting": SelfAdversarialWeighting()}
        if kind == "MeBNS":
            changes |= {"selector": SoftmaxSelector(num_negatives=2), "schedule": Schedule(warmup=1)}
        system = make(kind, data.spec, name, **changes).double()
        trainer = fit(system, data, 2, devices=devices, strategy="auto" if devices == 1 else "ddp")
        if trainer.is_global_zero:
            torch.save(weights(system), f"{folder}/{name}-{devices}.pt")
        torch.save(weights(system.proposal), f"{folder}/{name}-{devices}-{trainer.global_rank}.pt")


def _rank(rank: int, port: int, folder: str, names: tuple[str, ...]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
    }
    _train(2, folder, names)
    torch.distributed.destroy_process_group()


def compare_ranks(folder: Path, names: tuple[str, ...]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    in_processes(_rank, port, str(folder), names, ranks=2)
    _train(1, str(folder), names)
    for name in names:
        one, two = (torch.load(folder / f"{name}-{size}.pt", weights_only=True) for size in (1, 2))
        for part, value in one.items():
            torch.testing.assert_close(two[part], value, rtol=1e-7, atol=1e-9, msg=f"{name}: {part}")
        held = [torch.load(folder / f"{name}-2-{rank}.pt", weights_only=True) for rank in (0, 1)]
        assert equal(*held), name


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    compare_ranks(tmp_path, tuple(ADAPTIVE))


# --- every recipe, in both systems, with every encoder --------------------------------------------------------------


def run_recipe(recipe: str, encoder: str, kind: str) -> AbstractLinkSystem:
    """Two epochs of a recipe as configured, on the embedded graph."""
    files = ("base", "data/air_routes", f"model/{encoder}_dot", f"sampler/{recipe}")
    args = [part for file in files for part in ("-c", str(CONFIGS / f"{file}.yaml"))]
    args += [f"--model={kind}", "--trainer.logger=false", "--trainer.accelerator=cpu", "--data.batch_size=30"]
    args += ["--model.predictor.encoder.hidden_channels=8"]
    if kind == "MeBNS":
        args += ["--model.schedule.warmup=1", "--model.collector.num_passes=3", "--model.collector.batch_size=8"]
    parser, before = command_line_parser("fit"), torch.get_rng_state()
    made = parser.instantiate_classes(parser.parse_args(args))
    torch.set_rng_state(before)
    assert type(made.model) is {"Plain": Plain, "MeBNS": MeBNS}[kind]
    watch = Watch()
    fit(made.model, made.data, 2, [watch], limit_train_batches=2, limit_val_batches=0)
    assert len(watch.picked) == 4
    assert all(pairs.shape[1] for pairs in watch.picked)
    return made.model


SHORT = [(recipe, ENCODERS[number % 3], ("Plain", "MeBNS")[number % 2]) for number, recipe in enumerate(RECIPES)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("recipe", "encoder", "kind"), SHORT)
def test_recipes_run(recipe: str, encoder: str, kind: str) -> None:
    run_recipe(recipe, encoder, kind)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["Plain", "MeBNS"])
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_with_every_encoder_in_both(recipe: str, encoder: str, kind: str) -> None:
    run_recipe(recipe, encoder, kind)


def test_there_are_all_the_recipes() -> None:
    assert set(RECIPES) == {
        "rns", "pns", "dns", "dns_mn", "sans", "mcns", "nscaching", "kbgan", "softmax", "ahns", "bns",
        "self_adversarial", "structure", "half_ppr", "near",
    }  # fmt: skip
