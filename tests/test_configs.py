"""Every configuration parses, alone and stacked, and what a stack should change it changes."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace

from mebns_pl import MeBNS, Plain
from mebns_pl.datasets.catalog import NAMES
from references.runs import command_line_parser

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
REPRODUCED = sorted(path.stem for path in (CONFIGS / "reproduce").glob("*.yaml"))
DATA, MODELS, SAMPLERS = (
    sorted(path.stem for path in (CONFIGS / part).glob("*.yaml") if path.stem != "auto")  # tests/cli/test_auto.py
    for part in ("data", "model", "sampler")
)


@cache
def parse(*args: str) -> Namespace:
    return command_line_parser("fit").parse_args(args)


def stack(*names: str) -> list[str]:
    return [part for name in names for part in ("-c", str(CONFIGS / f"{name}.yaml"))]


def short(class_path: str) -> str:
    return class_path.rsplit(".", 1)[-1]


def backbone(predictor: Namespace) -> str:
    """The encoder's name, or that of a predictor which is more than an encoder with a decoder."""
    named = predictor.init_args.encoder if short(predictor.class_path) == "EncoderDecoder" else predictor
    return short(named.class_path).lower()


def test_there_are_configs() -> None:
    assert {"air_routes_gcn_plain", "cora_gcn_dns", "pubmed_gcn_mebns", "usair_seal_mebns"} <= set(EXPERIMENTS)
    assert {"air_routes", "cora", "own_graph"} <= set(DATA)
    assert {"gcn_dot", "gat_mlp", "ncn", "seal"} <= set(MODELS)
    assert {"rns", "dns"} <= set(SAMPLERS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_say_what_their_names_say(name: str) -> None:
    config = parse(*stack(f"experiment/{name}"))
    graph, encoder, method = name.rsplit("_", 2)
    model = config.model.init_args
    assert config.data.graph == graph
    assert graph in NAMES
    assert backbone(model.predictor) == encoder
    assert short(config.model.class_path) == ("MeBNS" if method == "mebns" else "Plain")
    assert short(model.sampler.init_args.selector.class_path) == (
        "HardestSelector" if method == "dns" else "FirstSelector"
    )
    assert config.trainer.logger.init_args.name == name


@pytest.mark.parametrize("name", REPRODUCED)
def test_what_reproduces_says_what_it_is(name: str) -> None:
    """Its graph, its folder, plain training or MeBNS; who ranks against negatives of his own says so."""
    text = (CONFIGS / "reproduce" / f"{name}.yaml").read_text()
    config = parse(*stack(f"reproduce/{name}"))
    assert name.replace("_", "-").find(config.data.graph) >= 0
    assert config.trainer.logger.init_args.name == name
    mebns = name.endswith("_mebns")
    assert short(config.model.class_path) == ("MeBNS" if mebns else "Plain")
    assert (config.data.split.meta > 0) == mebns
    assert (config.data.protocol is None) == ("negatives of our own" in " ".join(text.replace("#", "").split()))


PAIRS = Counter(name.rsplit("_", 1)[0] for name in EXPERIMENTS)


@pytest.mark.parametrize("pair", sorted(pair for pair, methods in PAIRS.items() if methods > 1))
def test_methods_are_compared_at_equal_everything_else(pair: str) -> None:
    """Data, predictor, optimizer, seed and number of epochs of the methods of one graph and encoder are the same."""

    def compared(name: str) -> list[Any]:
        config = parse(*stack(f"experiment/{name}"))
        model = config.model.init_args
        return [config.data, model.predictor, model.optimizer, config.seed_everything, config.trainer.max_epochs]

    first, *others = (compared(name) for name in EXPERIMENTS if name.rsplit("_", 1)[0] == pair)
    assert others
    for other in others:
        assert other == first


# Files of one kind say the same keys, so each need not meet all others
LONGEST = max(len(MODELS), len(SAMPLERS))
STACKS = list(islice(zip(cycle(DATA), cycle(MODELS), cycle(SAMPLERS), strict=False), LONGEST))


PARTS = {"refined_gae": "lineargcn_residualmlp", "structure": "structurepredictor", "structure_mlp": "structuremlp"}
"""What files that are not named by their encoder are of."""


@pytest.mark.parametrize(("data", "model", "sampler"), STACKS)
def test_stacks(data: str, model: str, sampler: str) -> None:
    names = ("base", f"data/{data}", f"model/{model}", f"sampler/{sampler}")
    args = stack(*names)
    config = parse(*args)
    encoder, _, decoder = PARTS.get(model, model).removesuffix("_narrow").partition("_")
    predictor = config.model.init_args.predictor
    assert short(config.model.class_path) == "MeBNS"
    assert backbone(predictor) == encoder
    if decoder:
        assert short(predictor.init_args.decoder.class_path).lower() == f"{decoder}decoder"
    assert config.data.graph == {"own_graph": "edges.csv"}.get(data, data)
    # What only base says is still there
    assert config.model.init_args.filter.init_args.drop_top == 0.05
    assert config.model.init_args.weight_net_optimizer.init_args.lr == 0.01


def test_every_file_takes_its_turn() -> None:
    assert [set(names) for names in list(zip(*STACKS, strict=True))[1:]] == [set(MODELS), set(SAMPLERS)]


def test_every_graph_stacks() -> None:
    """All of them on each other: a key that is not there would be refused, and the last word counts."""
    config = parse(*stack("base", *(f"data/{data}" for data in DATA)))
    assert config.data.graph == DATA[-1]
    for data in DATA:
        graph = yaml.safe_load((CONFIGS / "data" / f"{data}.yaml").read_text())["data"]["graph"]
        assert graph == {"own_graph": "edges.csv"}.get(data, data)


def test_every_graph_of_the_catalogue_has_a_configuration() -> None:
    assert set(DATA) == {*NAMES, "own_graph"}


@pytest.mark.parametrize("sampler", ["dns", "half_ppr"])
def test_the_control_is_one_option_away(sampler: str) -> None:
    args = stack("base", "data/cora", "model/gcn_dot", f"sampler/{sampler}")
    mebns, plain = parse(*args), parse(*args, "--model=Plain")
    assert short(plain.model.class_path) == "Plain"
    assert plain.data == mebns.data
    for name in ("predictor", "sampler", "optimizer"):
        assert plain.model.init_args[name] == mebns.model.init_args[name]
    assert "filter" not in plain.model.init_args


@pytest.mark.parametrize("name", ["pubmed_gcn_mebns", "cora_gcn_dns"])
def test_neighbor_batches_stack_on_any_run(name: str) -> None:
    whole, part = parse(*stack(f"experiment/{name}")), parse(*stack(f"experiment/{name}", "batching/neighbor"))
    assert short(part.model.init_args.batching.class_path) == "NeighborSampling"
    assert (
        part.model.init_args.batching.init_args.num_hops
        >= part.model.init_args.predictor.init_args.encoder.init_args.num_layers
    )
    del part.model.init_args["batching"], whole.model.init_args["batching"]
    assert part.model == whole.model


def test_base_alone_and_with_plain() -> None:
    assert short(parse(*stack("base")).model.class_path) == "MeBNS"
    plain = parse(*stack("base"), "--model=Plain").model
    assert short(plain.class_path) == "Plain"
    assert plain.init_args.optimizer.init_args.lr == 0.01


def test_the_command_lines_last_word_counts() -> None:
    args = stack("experiment/cora_gcn_mebns")
    config = parse(*args, "--data.batch_size=7", "--model.schedule.warmup=2", "--seed_everything=5")
    assert (config.data.batch_size, config.model.init_args.schedule.warmup, config.data.seed) == (7, 2, 5)


@pytest.mark.parametrize(("model", "system"), list(zip(MODELS, cycle(["MeBNS", "Plain"]), strict=False)))
def test_models_can_be_made(tmp_path: Path, model: str, system: str) -> None:
    edges = tmp_path / "edges.csv"
    edges.write_text("source,target\n" + "".join(f"{i},{i + 1}\n" for i in range(40)))
    args = [*stack("base", "data/own_graph", f"model/{model}"), f"--data.graph={edges}", f"--model={system}"]
    args += ["--trainer.logger=false", "--trainer.accelerator=cpu"]
    state = torch.get_rng_state()
    parser = command_line_parser("fit")
    made = parser.instantiate_classes(parser.parse_args(args))
    torch.set_rng_state(state)
    assert type(made.model) is {"MeBNS": MeBNS, "Plain": Plain}[system]
    # The spec came from the data: without features each of the 41 nodes has an embedding, but where structure is all
    embeds = any(param.shape[0] == 41 for param in made.model.student.parameters() if param.dim())
    assert embeds == (model not in ("seal", "structure_mlp"))


def test_every_default_can_be_written_down(tmp_path: Path) -> None:
    """A run saves its options: a default that is an object would be saved as a text that no run takes."""
    for option in ("engine=Every", "teaching=Rounds", "filter=MissingEdgeFilter", "loss=MarginLoss"):
        parser = command_line_parser("fit")
        config = parser.parse_args(["--model=MeBNS", f"--model.{option}"])
        assert "Unable to serialize" not in parser.dump(config, skip_validation=True), option
