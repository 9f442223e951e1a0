"""`model.predictor: auto`: what it stands for on the command line, and what overrides it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping

from mebns_pl.cli import auto
from mebns_pl.cli.auto import with_choice
from mebns_pl.cli.main import main
from mebns_pl.config_files import find_config_file
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.errors import DataError
from mebns_pl.models.auto import CHOICES, Choice, GraphFacts, chosen
from mebns_pl.types import GraphSpec
from references.runs import command_line_parser, make_loaded

LOADED = make_loaded(features=False)
FACTS = GraphFacts(LOADED.spec, LOADED.num_edges, LOADED.max_degree)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = make_loaded()
    ends = [[f"n{node}" for node in nodes] for nodes in loaded.edges.tolist()]
    pd.DataFrame({"from": ends[0], "target": ends[1]}).to_csv("e.csv", index=False)
    assert isinstance(loaded.x, torch.Tensor)
    names = [f"n{node}" for node in range(len(loaded.x))]
    pd.DataFrame(loaded.x.numpy(), columns=list("abcde")).assign(node=names).to_csv("n.csv", index=False)


DATA = ["--data.graph", "e.csv", "--data.columns.source=from"]


def file(name: str) -> list[str]:
    return ["-c", str(find_config_file(name))]


def parsed(*arguments: str) -> Any:
    return command_line_parser("fit").parse_args(with_choice(["fit", *arguments])[1:])


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> list[GraphFacts]:
    """The graphs that a model was chosen for."""
    found: list[GraphFacts] = []

    def seen(graph: GraphFacts) -> Any:
        found.append(graph)
        return chosen(graph)

    monkeypatch.setattr(auto, "chosen", seen)
    return found


@pytest.mark.parametrize("where", ["option", "word", "file", "own"])
def test_the_graph_is_that_of_the_options(where: str, facts: list[GraphFacts]) -> None:
    """Wherever they stand: data behind the model, tables with columns of their own, files."""
    named = {
        "option": ["--model.predictor", "auto"],
        "word": ["--model.predictor=auto"],
        "file": file("model/auto"),
        "own": file("run/own"),
    }[where]
    parsed(*named, "--model=Plain", *DATA, "--data.nodes=n.csv")
    Path("data.yaml").write_text(yaml.safe_dump({"data": {"graph": "e.csv", "columns": {"source": "from"}}}))
    parsed("-c", "data.yaml", *named)
    edges = make_loaded().num_edges
    assert [(graph.spec.num_features, graph.num_edges) for graph in facts] == [(5, edges), (0, edges)]
    assert [graph.num_nodes for graph in facts] == [41, 40]


@pytest.mark.parametrize(("system", "schedule"), [("Plain", []), ("MeBNS", ["schedule"])])
def test_what_is_chosen_is_what_is_parsed(system: str, schedule: list[str]) -> None:
    config = parsed(*file("base"), *file("run/own"), f"--model={system}", *DATA)
    choice = chosen(FACTS)
    model = config.model.init_args
    assert config.model.class_path == f"mebns_pl.{system}"
    assert model.predictor.class_path == choice.options["model.predictor"]
    assert model.optimizer.init_args.lr == choice.options["model.optimizer.lr"]
    assert config.trainer.max_epochs == 60
    for name in schedule:
        model = model[name].init_args if "init_args" in model[name] else model[name]
    assert model.lr_scheduler.init_args.total_iters == 60


@pytest.mark.parametrize(
    ("nodes", "edges", "features", "name", "epochs"),
    [
        (352, 3_017, 6, "structure", 60),
        (2_375, 5_000, 0, "structure", 30),
        (2_375, 11_693, 0, "structure", 15),
        (19_717, 44_324, 63, "structure", 15),
        (2_708, 5_278, 64, "structure and features", 30),
        (30_000, 40_000, 64, "structure and features", 15),
        (30_001, 40_000, 64, "GCN + MLP", 60),
        (2_001, 99_999, 64, "structure and features", 15),
        (2_000, 100_000, 64, "GCN + MLP", 30),
        (300, 15_000, 64, "GCN + MLP", 60),
        (13_752, 245_861, 767, "GCN + MLP", 30),
        (300, 15_000, 0, "linear embeddings", 60),
        (4_267, 1_334_889, 0, "linear embeddings", 30),
        (40_000, 99_999, 0, "structure", 15),
        (40_000, 100_000, 0, "linear embeddings", 30),
    ],
)
def test_what_graphs_get(nodes: int, edges: int, features: int, name: str, epochs: int) -> None:
    facts = GraphFacts(GraphSpec(nodes, features), edges, max_degree=nodes - 1)
    assert (chosen(facts).name, chosen(facts).epochs_for(facts)) == (name, epochs)


@pytest.mark.parametrize(
    ("nodes", "edges", "most", "name"),
    [
        (4_941, 6_594, 19, "structure and PageRank"),  # Power
        (5_022, 6_258, 106, "structure"),  # Router: hubs
        (1_461, 2_742, 34, "structure"),  # NS
        (297, 2_148, 134, "structure"),  # C. elegans
        (50_001, 70_000, 9, "structure"),
    ],
)
def test_sparse_graphs_without_hubs_get_page_rank(nodes: int, edges: int, most: int, name: str) -> None:
    assert chosen(GraphFacts(GraphSpec(nodes), edges, most)).name == name


def test_the_most_neighbours_of_a_node() -> None:
    assert LoadedGraph("star", torch.tensor([[0, 1, 1, 1], [1, 2, 3, 4]]), list("abcdef")).max_degree == 4
    assert LoadedGraph("none", torch.empty(2, 0, dtype=torch.int64), ["a", "b"]).max_degree == 0


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
@pytest.mark.parametrize("system", ["Plain", "MeBNS"])
def test_every_choice_is_parsed(choice: Choice, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "chosen", lambda _: choice)
    config = parsed(*file("base"), *file("run/own"), f"--model={system}", *DATA)
    assert config.model.init_args.predictor.class_path == choice.options["model.predictor"]
    assert config.data.batch_size == choice.options["data.batch_size"]


def test_the_pages_table_is_that_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()
    for choice in CHOICES:
        rate, batch = choice.options["model.optimizer.lr"], choice.options["data.batch_size"]
        first, *others = choice.epochs.items()
        epochs = f"{first[1]}" + "".join(f", from {fewest:,} edges {count}" for fewest, count in others)
        assert f"| {choice.graphs} | {choice.name} | {rate} | {batch:,} | {epochs} |" in page


def test_its_near_candidates_are_those_of_the_file() -> None:
    (choice,) = (choice for choice in CHOICES if choice.name == "structure and features")
    (path,) = file("sampler/near")[1:]
    sampler = yaml.safe_load(Path(path).read_text())["model"]["init_args"]["sampler"]
    assert choice.options["model.sampler.proposal"] == sampler["proposal"]


def test_what_stands_behind_it_overrides() -> None:
    config = parsed(
        *file("run/own"),
        "--model=Plain",
        *DATA,
        "--trainer.max_epochs=9",
        "--model.optimizer.lr=0.5",
        "--data.batch_size=7",
    )
    model = config.model.init_args
    assert model.optimizer.init_args.lr == 0.5
    assert (config.trainer.max_epochs, model.lr_scheduler.init_args.total_iters, config.data.batch_size) == (9, 9, 7)


def test_another_predictor_behind_it_leaves_nothing_of_it(facts: list[GraphFacts]) -> None:
    for behind in (file("model/ncn"), ["--model.predictor", "mebns_pl.NCN"]):
        config = parsed(*file("base"), *file("run/own"), *behind, "--model=Plain", *DATA)
        assert config.model.init_args.predictor.class_path == "mebns_pl.NCN"
        assert config.model.init_args.get("lr_scheduler") is None
    assert not facts


def test_what_does_not_name_it_stays_as_it_is() -> None:
    for arguments in (["fit", "--model=Plain"], ["test", "--model.predictor=auto"], []):
        assert with_choice(arguments) == arguments


def test_a_graph_that_cannot_be_read_is_told_in_one_line() -> None:
    with pytest.raises(DataError, match="nowhere.csv: no such file"):
        with_choice(["fit", "--model.predictor=auto", "--data.graph=nowhere.csv"])


def test_a_run_writes_down_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, read = [], LinkDataModule._read
    monkeypatch.setattr(LinkDataModule, "_read", lambda data: reads.append(data.graph_name) or read(data))
    short = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    run = main(["fit", *file("base"), *file("run/own"), "--model=Plain", *DATA, *short])
    assert reads == ["e.csv"]  # choice and run look at the same graph
    text = Path(run.trainer.log_dir or "", "config.yaml").read_text()
    assert "predictor: auto" not in text
    choice = chosen(FACTS)
    assert yaml.safe_load(text)["model"]["init_args"]["predictor"]["class_path"] == choice.options["model.predictor"]
    assert json.loads(Path(run.trainer.log_dir or "", "metrics.json").read_text())["fit"]


@pytest.mark.parametrize("value", ["null", "-1", "~"])
def test_a_training_of_no_told_length_falls_over_the_choices_epochs(value: str) -> None:
    Path("steps.yaml").write_text(f"trainer: {{max_epochs: {value}, max_steps: 20}}")
    for behind in (["-c", "steps.yaml"], [f"--trainer.max_epochs={value}"], ["--trainer.max_epochs", value]):
        config = parsed(*file("run/own"), "--model=Plain", *DATA, *behind)
        assert config.trainer.max_epochs == yaml.safe_load(value)
        assert config.model.init_args.lr_scheduler.init_args.total_iters == 60


@pytest.mark.parametrize(
    ("value", "told"), [("abc", "got 'abc'; allowed is an integer"), ("1.5", "got '1.5'"), ("[", "trainer.max_epochs")]
)
def test_epochs_that_are_no_number_are_told_in_one_line(
    value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(*file("run/own"), "--model=Plain", *DATA, f"--trainer.max_epochs={value}")
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


ROWS = [(choice, epochs) for choice in CHOICES for epochs in choice.epochs.values()]


@pytest.mark.parametrize(("choice", "epochs"), ROWS, ids=[f"{choice.name}-{epochs}" for choice, epochs in ROWS])
def test_a_run_that_never_gains_ends_early_in_every_row(
    choice: Choice, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "chosen", lambda _: replace(choice, epochs={0: epochs}))
    trainer = parsed(*file("base"), *file("run/own"), "--model=Plain", *DATA).trainer
    (config,) = trainer.callbacks
    stopper, every = EarlyStopping(**config.init_args), trainer.check_val_every_n_epoch
    stopped = [epoch for epoch in range(every, epochs + 1, every) if gives_up(stopper)]
    assert epochs // 2 <= stopped[0] - every < stopped[0] < epochs  # a half without gain behind the first validation
    if epochs == 60:
        assert (every, stopper.patience, stopped[0]) == (3, 10, 33)


def gives_up(stopper: EarlyStopping) -> bool:
    return stopper._evaluate_stopping_criteria(torch.tensor(0.5))[0]


@pytest.mark.parametrize(("epochs", "every"), [(1, 1), (20, 1), (21, 2), (60, 3), (61, 3), (6_000, 3)])
def test_short_trainings_are_validated_more_often(epochs: int, every: int) -> None:
    own = [*file("base"), *file("run/own"), "--model=Plain", *DATA, f"--trainer.max_epochs={epochs}"]
    assert parsed(*own).trainer.check_val_every_n_epoch == every
    assert parsed(*own, "--trainer.check_val_every_n_epoch=7").trainer.check_val_every_n_epoch == 7
    others = [*file("base"), *file("model/auto"), "--model=Plain", *DATA, f"--trainer.max_epochs={epochs}"]
    assert parsed(*others).trainer.check_val_every_n_epoch == 5  # of a file that plans nothing


@pytest.mark.parametrize("nodes", [[], ["--data.nodes=n.csv"]])
def test_sampled_neighbourhoods_get_layers_of_an_encoder(nodes: list[str], facts: list[GraphFacts]) -> None:
    option = ["--model.batching=NeighborSampling", "--model.batching.fan_out=3"]
    for before, behind in ((file("batching/neighbor"), []), ([], file("batching/neighbor")), ([], option)):
        config = parsed(*file("base"), *before, *file("run/own"), "--model=Plain", *DATA, *nodes, *behind)
        predictor, batching = config.model.init_args.predictor, config.model.init_args.batching
        assert batching.class_path == "mebns_pl.NeighborSampling"
        assert predictor.class_path == "mebns_pl.EncoderDecoder"
        assert predictor.init_args.encoder.class_path == "mebns_pl.GCN"
    assert all(graph.sampled for graph in facts)


@pytest.mark.parametrize(
    ("nodes", "edges", "features"), [(300, 3_000, 0), (2_708, 5_278, 64), (300, 15_000, 0), (40_000, 300_000, 0)]
)
def test_what_graphs_get_for_sampled_neighbourhoods(nodes: int, edges: int, features: int) -> None:
    choice = chosen(GraphFacts(GraphSpec(nodes, features), edges, max_degree=9, sampled=True))
    assert choice.name == "GCN + MLP"


def test_a_run_on_sampled_neighbourhoods_trains() -> None:
    short = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    sampled = ["--model.batching=NeighborSampling", "--trainer.logger=false"]
    run = main(["fit", *file("base"), *file("run/own"), "--model=Plain", *DATA, *short, *sampled])
    assert run.trainer.current_epoch == 1


@pytest.mark.parametrize("name", ["model.init_args.predictor", "model.predictor", "model.predictor.class_path"])
def test_both_spellings_of_an_option_mean_the_same(name: str, facts: list[GraphFacts]) -> None:
    plain = parsed("--model=Plain", *DATA, "--model.predictor=auto", "--model.sampler.selector=HardestSelector")
    for named in ([f"--{name}=auto"], [f"--{name}", "auto"]):
        selector = "--model.init_args.sampler.init_args.selector=HardestSelector"
        assert parsed("--model=Plain", *DATA, *named, selector) == plain
    del facts[:]
    config = parsed("--model=Plain", *DATA, "--model.predictor=auto", f"--{name}=mebns_pl.NCN")
    assert config.model.init_args.predictor.class_path == "mebns_pl.NCN"
    assert config.model.init_args.get("lr_scheduler") is None
    assert not facts


def test_another_selector_picks_as_it_does_by_itself() -> None:
    """The eight negatives of the choice are its own selector's."""
    config = parsed(*file("base"), *file("run/own"), "--model=Plain", *DATA, "--model.sampler.selector=HardestSelector")
    selector = (
        config.model.init_args.sampler.init_args.selector
        if "init_args" in config.model.init_args.sampler
        else (config.model.init_args.sampler.selector)
    )
    assert (selector.class_path, selector.init_args.num_negatives) == ("mebns_pl.HardestSelector", 1)


@pytest.mark.parametrize(("system", "lacking"), [("AutoEncoder", "sampler"), ("Heuristic", "predictor")])
def test_a_system_that_it_does_not_go_with_is_refused(system: str, lacking: str) -> None:
    with pytest.raises(DataError, match=f"'auto' with {system}, which has no {lacking}"):
        parsed(*file("base"), f"--model={system}", "--model.predictor=auto", *DATA)
