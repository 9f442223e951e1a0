"""The protocols' configurations: each can be made, alone and on top of others, and says what its name says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jsonargparse import Namespace

from mebns_pl import Heuristic, Plain
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.evaluation.all_nodes import AllNodesComparison
from mebns_pl.evaluation.negative_cache import CachedNegatives
from mebns_pl.evaluation.protocols import (
    AsReleasedComparison,
    GeneratedComparison,
    OfficialComparison,
    OfficialParting,
    RandomParting,
    ReleasedComparison,
    TimeParting,
    UniformComparison,
)
from references.runs import command_line_parser

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
EXPECTED = {
    "seal": (RandomParting, UniformComparison, True),
    "existing": (OfficialParting, OfficialComparison, False),
    "ogb": (OfficialParting, OfficialComparison, False),
    "heart": (OfficialParting, GeneratedComparison, False),
    "heart_released": (OfficialParting, ReleasedComparison, False),
    "all_nodes": (RandomParting, AllNodesComparison, False),
    "by_time": (TimeParting, GeneratedComparison, False),
    "heart_as_released": (OfficialParting, AsReleasedComparison, False),
}


def make(command: str, *args: str) -> Namespace:
    state, parser = torch.get_rng_state(), command_line_parser(command)
    options = ["--trainer.logger=false", "--trainer.accelerator=cpu"]
    made = parser.instantiate_classes(parser.parse_args([*args, *options]))
    torch.set_rng_state(state)
    return made


def test_every_protocol_has_its_file() -> None:
    assert {path.stem for path in (CONFIGS / "protocol").glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", list(EXPECTED))
def test_protocols(name: str) -> None:
    made = make("test", "-c", str(CONFIGS / f"protocol/{name}.yaml"), "--model=Heuristic", "--model.measure=Katz")
    protocol = made.data.protocol
    assert isinstance(made.data, LinkDataModule)
    assert isinstance(made.model, Heuristic)
    parting, comparison, val_in_test = EXPECTED[name]
    assert type(protocol.parting) is parting
    assert type(protocol.comparison) is comparison
    assert protocol.val_in_test is val_in_test


def test_what_the_protocols_take_by_default() -> None:
    protocols = {
        name: make("test", "-c", str(CONFIGS / f"protocol/{name}.yaml"), "--model=Heuristic").data.protocol
        for name in ("seal", "heart", "heart_as_released")
    }
    assert (protocols["seal"].parting.val, protocols["seal"].parting.test) == (0.05, 0.1)
    negatives = protocols["heart"].comparison.negatives
    assert isinstance(negatives, CachedNegatives)
    assert negatives.negatives.num_per_end == 250
    generator = protocols["heart_as_released"].comparison.generator
    assert (generator.num_per_end, generator.alpha, generator.eps) == (250, 0.15, 1e-7)


def test_on_top_of_a_model() -> None:
    args = [
        part for name in ("base", "model/gcn_dot", "protocol/seal") for part in ("-c", str(CONFIGS / f"{name}.yaml"))
    ]
    made = make("fit", *args, "--model=Plain")
    assert isinstance(made.model, Plain)
    assert made.data.protocol.val_in_test
    assert made.model.sampler.num_candidates == 8


def test_the_reproduction_of_hearts_gcn() -> None:
    config = command_line_parser("fit").parse_args(["-c", str(CONFIGS / "reproduce/heart_citeseer_gcn.yaml")])
    model = config.model.init_args
    assert (model.optimizer.init_args.lr, model.optimizer.init_args.weight_decay) == (0.01, 1e-7)
    assert model.updates.gradient_clip_norm == 1.0
    assert config.trainer.check_val_every_n_epoch == 5
    assert config.data.batch_size == 1024
