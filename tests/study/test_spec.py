"""Study files: axes, stacks, exclusions, seeds; what is refused, in one line."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from mebns_pl.config_files import find_config_file
from mebns_pl.errors import DataError
from mebns_pl.study.plan import as_arguments, plan_runs, write_files
from mebns_pl.study.spec import flat, read_study, stacked

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STUDY = """
name: small
base: [base, {trainer.max_epochs: 3}]
axes:
  graph: [air_routes, usair]
  model: [gcn_dot]
  sampler:
    uniform: sampler/rns
    dns:
    dns32: [sampler/dns, {model.sampler.num_candidates: 32}]
  system: [Plain, MeBNS]
exclude:
  - {graph: usair, sampler: dns32}
seeds: 2
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "study.yaml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def test_all_combinations_over_all_seeds_without_those_excluded() -> None:
    runs = plan_runs(read_study(write(STUDY)))
    got = [(run.seed, *run.axes.values()) for run in runs]
    combinations = itertools.product(
        ("air_routes", "usair"), ("gcn_dot",), ("uniform", "dns", "dns32"), ("Plain", "MeBNS")
    )
    kept = [c for c in combinations if not (c[0] == "usair" and c[2] == "dns32")]
    assert got == [(seed, *c) for seed in (0, 1) for c in kept]
    assert len({run.run for run in runs}) == len(runs)


def test_a_run_is_the_stack_that_one_would_type() -> None:
    run = next(run for run in plan_runs(read_study(write(STUDY))) if run.axes["sampler"] == "dns32")
    assert [file.name for file in run.files] == ["base", "data/air_routes", "model/gcn_dot", "sampler/dns"]
    arguments = run.arguments(Path("out"))
    assert arguments[-4:] == [
        "--model=Plain",
        "--trainer.max_epochs=3",
        "--model.sampler.num_candidates=32",
        "--seed_everything=0",
    ]
    assert arguments[:8:2] == ["-c"] * 4
    assert run.config["trainer.max_epochs"] == 3
    assert run.config["model.sampler.num_candidates"] == 32
    assert run.config["model"] == "Plain"
    assert "seed_everything" not in run.config  # base.yaml has one


def test_files_are_kept_as_they_were(tmp_path: Path) -> None:
    write("data: {graph: air_routes}\n", "own.yaml")
    study = read_study(write("{name: s, base: [own], seeds: 1}"))
    (run,) = plan_runs(study)
    write_files([run], study, tmp_path / "out")
    write("data: {graph: usair}\n", "own.yaml")
    kept = Path(run.arguments(tmp_path / "out")[1])
    assert yaml.safe_load(kept.read_text()) == {"data": {"graph": "air_routes"}}
    assert (tmp_path / "out" / "study.yaml").read_text() == study.text
    (edited,) = plan_runs(read_study(Path("study.yaml")))
    assert edited.run != run.run


def test_the_name_of_a_run_is_of_what_it_is_made_of() -> None:
    def name(text: str) -> str:
        return plan_runs(read_study(write(text)))[0].run

    plain = name("{name: s, base: [base], seeds: [3]}")
    assert name("{name: t, base: [base], seeds: [3]}") == plain  # what a study is called is no part of its runs
    assert name("{name: s, base: [base], axes: {graph: {air: {data.graph: air_routes}}}, seeds: [3]}") != plain
    assert name("{name: s, base: [base], seeds: [4]}") != plain
    assert name("{name: s, base: [base], seeds: [3], split_seeds: [0]}") != plain
    assert name("{name: s, base: [base, {trainer.max_epochs: 4}], seeds: [3]}") != plain
    assert plain.startswith("r")
    assert len(plain) == 12


def test_options_may_be_axes() -> None:
    study = read_study(write("{base: base, axes: {--model.sampler.num_candidates: [8, 32], model.engine: [Every]}}"))
    assert [run.axes for run in plan_runs(study)] == [
        {"model.sampler.num_candidates": "8", "model.engine": "Every"},
        {"model.sampler.num_candidates": "32", "model.engine": "Every"},
    ]
    assert "--model.sampler.num_candidates=32" in plan_runs(study)[1].arguments(Path())


def test_what_a_file_would_nest_is_stacked_as_one() -> None:
    study = read_study(write("{base: base, axes: {variant: {band: {model: {init_args: {schedule: {warmup: 5}}}}}}}"))
    (run,) = plan_runs(study)
    assert yaml.safe_load(run.files[-1].text) == {"model": {"init_args": {"schedule": {"warmup": 5}}}}
    assert run.config["model.schedule.warmup"] == 5


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ("seeds: 3", [(None, 0), (None, 1), (None, 2)]),
        ("{}", [(None, 0)]),
        ("{seeds: [4, 2], split_seeds: [7]}", [(7, 4), (7, 2)]),
        ("{seeds: 2, split_seeds: 2, pairing: crossed}", [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ("{seeds: [5, 6], split_seeds: [1, 2], pairing: paired}", [(1, 5), (2, 6)]),
    ],
)
def test_seeds_of_the_split_and_of_the_weights(given: str, seeds: list[tuple[int | None, int]]) -> None:
    assert list(read_study(write(given)).seeds) == seeds


def test_the_splits_seed_is_given_only_where_it_is_apart() -> None:
    coupled, apart = (
        plan_runs(read_study(write(text)))[0] for text in ("seeds: [3]", "{seeds: [3], split_seeds: [1]}")
    )
    assert coupled.arguments(Path())[-1:] == ["--seed_everything=3"]
    assert apart.arguments(Path())[-2:] == ["--seed_everything=3", "--data.split_seed=1"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1, 2]", r"allowed are name, about, base"),
        ("{axis: {}}", r"got 'axis'; did you mean axes\?"),
        ("{name: a/b}", r"name: got 'a/b'; allowed is the name of a folder"),
        ("a: [", r"study.yaml, line 1: no YAML"),
        ("{base: nothing}", r"base: no such file: 'nothing.yaml'; looked in "),
        ("{base: [3]}", r"base: got 3; allowed are names of files and mappings"),
        ("{axes: {colour: [red]}}", r"axes.colour: unknown axis; .*graph, model, sampler, system, and options such as"),
        ("{axes: {grph: [cora]}}", r"axes.grph: unknown axis \(did you mean graph\?\)"),
        ("{axes: {graph: [atlantis]}}", r"axes.graph: no such file: 'data/atlantis.yaml'"),
        ("{axes: {graph: cora}}", r"axes.graph: got 'cora'; allowed is a list, or a mapping"),
        ("{axes: {graph: []}}", r"axes.graph: it has no value"),
        ("{axes: {graph: [cora, cora]}}", r"axes.graph: got a value twice"),
        ("{axes: {model.schedule: [{warmup: 3}]}}", r"give it a name"),
        ("{axes: {graph: [cora]}, exclude: [{model: ncn}]}", r"exclude: unknown axis 'model'; allowed are graph"),
        ("{axes: {graph: [cora]}, exclude: [{graph: ns}]}", r"exclude: graph has no 'ns'; allowed are cora"),
        ("{axes: {graph: [cora]}, exclude: [{graph: cora}]}", r"exclude: it leaves no run"),
        ("{seeds: -1}", r"seeds: got -1; allowed are a number of seeds"),
        ("{seeds: [1, 1]}", r"seeds: got \[1, 1\]"),
        ("{seeds: 2, split_seeds: 2}", r"pairing: it is missing; allowed are crossed .* and paired"),
        ("{seeds: 2, split_seeds: 3, pairing: paired}", r"paired needs as many of both, got 3 split_seeds and 2 seeds"),
        ("{seeds: 2, pairing: paired}", r"without split_seeds"),
        ("{pairing: both}", r"pairing: got 'both'; allowed are crossed and paired"),
        ("{test: maybe}", r"test: got 'maybe'; allowed is true or false"),
        ("{options: {seed_everything: 3}}", r"seed_everything is set by the sweep itself; seeds stand under `seeds`"),
        ("{axes: {data.split_seed: [3]}}", r"data.split_seed is set by the sweep itself"),
        ("{options: {trainer.logger: false}}", r"trainer.logger is set by the sweep itself"),
        (
            "{options: {model.optimizer.lr: 0.1}, axes: {model: [ncn]}}",
            r"model.optimizer.lr is 0.005 by model=ncn and 0.1 by the options of all runs",
        ),
        (
            "{axes: {sampler: [softmax], model.sampler.num_candidates: [8]}}",
            r"contradiction: model.sampler.num_candidates is 200 by sampler=softmax and 8 by model.sampler.num_candid",
        ),
        ("{axes: {graph: {a: {data.graph: ns}, b: {data.graph: ns}}}}", r"graph=a and graph=b are the same config"),
        ("{search: 3}", r"search: got '3'; allowed are trials, ranges and pruning"),
        ("{search: {trials: 0, ranges: {a.b: [1]}}}", r"search.trials: got 0"),
        ("{search: {trials: 1, ranges: {a.b: {low: 3, high: 1}}}}", r"search.ranges.a.b: got .* low below high"),
        ("{search: {trials: 1, ranges: {a.b: {low: 0, high: 1, log: true}}}}", r"low above 0"),
        ("{search: {trials: 1, ranges: {data.seed: [1]}}}", r"data.seed is set by the sweep itself"),
        ("{seeds: 2, search: {trials: 1, ranges: {a.b: [1]}}}", r"search: got 2 seeds; allowed is one"),
        (
            "{axes: {model.optimizer.lr: [0.1]}, search: {trials: 1, ranges: {model.optimizer.lr: [1]}}}",
            r"model.optimizer.lr is searched, and set by model.optimizer.lr=0.1",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(text: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        plan_runs(read_study(write(text)))
    assert "\n" not in str(caught.value)


def test_a_missing_study_is_told() -> None:
    with pytest.raises(DataError, match=r"^study: no such file: 'nowhere.yaml'$"):
        read_study("nowhere.yaml")


def test_axes_that_are_excluded_together_may_contradict_each_other() -> None:
    text = "{axes: {sampler: [softmax], model.sampler.num_candidates: [8, 200]}, exclude: [{%s: 8}]}"
    read_study(write(text % "model.sampler.num_candidates"))


def test_a_part_set_to_null_loses_what_it_had() -> None:
    assert stacked({"data.protocol.parting": "a", "data.graph": "b"}, {"data.protocol": None}) == {
        "data.graph": "b",
        "data.protocol": None,
    }
    assert flat({"a": {"class_path": "B", "init_args": {"c": {"init_args": {"d": [1]}}}}}) == {"a": "B", "a.c.d": [1]}


def test_values_as_the_command_line_takes_them() -> None:
    given = {"a": True, "b": None, "c": "x y", "d": {"e": 1}, "f": 1e-6}
    assert as_arguments(given) == ["--a=true", "--b=null", "--c=x y", '--d={"e": 1}', "--f=1e-06"]


LARGE = {"main", "recipes"}
STUDIES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in LARGE))
    for path in sorted((CONFIGS / "study").glob("*.yaml"))
]


@pytest.mark.parametrize("path", STUDIES)
def test_the_studies_that_are_here_can_be_planned(path: Path) -> None:
    study = read_study(path)
    assert study.name == path.stem
    assert len(plan_runs(study)) > 1


def test_the_projects_studies_are_found_from_any_folder() -> None:
    found = find_config_file("configs/study/demo.yaml")
    assert found is not None
    assert find_config_file("study/demo") == found
    assert read_study(found).name == "demo"
