"""What comes from outside the command line: configurations, names, weights and sizes. One line, and nothing is run."""

from __future__ import annotations

import string
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mebns_pl import GraphColumns, Heuristic, LinkDataModule, Plain, PredictionPairs, predict_links, score_links
from mebns_pl.bounded_yaml import load_yaml
from mebns_pl.checks import fits
from mebns_pl.cli import main as cli
from mebns_pl.cli.preflight import check_config_file, check_run
from mebns_pl.errors import DataError
from mebns_pl.report.folders import frame_of_runs
from mebns_pl.study.spec import read_study
from references.runs import command_line_parser

RING = [(i, (i + step) % 30) for i in range(30) for step in (1, 2)]
NULL = "{class_path: RandomNegatives, init_args: {num_negatives: null}}"
LETTERS = string.ascii_lowercase


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEBNS_DEBUG", raising=False)


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line that a command ends with."""
    with pytest.raises(SystemExit) as ended:
        cli.run(argv)
    assert ended.value.code in (1, 2)
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in lines
    assert lines[-1].startswith("mebns: error: ")
    return lines[-1]


# YAML

ALIASES = f"a: &a [{', '.join('x' * 9)}]\n" + "".join(
    f"{low}: &{low} [{', '.join([f'*{above}'] * 9)}]\n" for above, low in pairwise(LETTERS[:13])
)
BOMBS = {
    "aliases": (ALIASES, "YAML nodes; allowed are 100,000 (MEBNS_LIMITS="),
    "merged": ("a: &a {x: 1}\nb: &b\n  <<: [" + "*a, " * 100_000 + "*a]\n", "YAML nodes; allowed"),
    "nesting of 500": ("a: " + "[" * 500 + "]" * 500, "nested levels; allowed are 100"),
    "nesting of 100,000": ("a: " + "[" * 100_000 + "]" * 100_000, "nested levels; allowed are 100"),
    "blocks": ("".join(" " * i + "a:\n" for i in range(2_000)), "nested levels; allowed are 100"),
    "digits": ("seed_everything: " + "9" * 5_000, "a number of 5,000 digits"),
    "sixties": ("data: {graph: " + ":".join(["1"] * 2_000) + "}", "digits"),
    "scalar": ("data: {graph: " + "x" * 10**6 + "}", "characters of an option; allowed are 65,536"),
    "quoted": ('data: {graph: "' + "x" * 10**6 + '"}', "characters of an option"),
    "key": ("? " + "x" * 10**6 + "\n: 1", "characters of an option"),
    "names": ("".join(f"name{i}: 1\n" for i in range(200_000)), "YAML nodes"),
    "itself": ("data: &a [*a]", "stands within itself"),
    "no date": ("data: {graph: 2024-99-99}", "no YAML (month must be in 1..12"),
    "list as key": ("? [a]\n: 1", "no YAML"),
    "class": ("a: !!python/object:os.system {}", "no YAML"),
    "control": ("a: \x7f", "no YAML"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_is_bounded_before_anything_is_made_of_it(name: str) -> None:
    text, told = BOMBS[name]
    Path("c.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        check_config_file("c.yaml")
    assert time.process_time() - start < 10
    assert told in str(caught.value)
    assert str(caught.value).startswith("c.yaml")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    ["a: &a [1, 2]\nb: [*a, *a]", "a: 0x1F\nb: 1e3\nc: .nan\nd: 1:30", "- &b {x: *b1}", "a: '9999'", ALIASES[:80]],
)
def test_other_yaml_is_read_as_by_the_library(text: str) -> None:
    try:
        expected = yaml.safe_load(text)
    except yaml.YAMLError:
        with pytest.raises(DataError, match="no YAML"):
            load_yaml(text, "c.yaml")
        return
    assert repr(load_yaml(text, "c.yaml")) == repr(expected)


def test_long_yaml_is_refused_before_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBNS_LIMITS", "0.001")
    with pytest.raises(DataError, match="bytes of YAML; allowed are 16,777"):
        load_yaml("# x\n" * 5_000, "c.yaml")


def test_the_bound_on_yaml_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: [" + "1, " * 100_000 + "1]"
    with pytest.raises(DataError, match="MEBNS_LIMITS=3 raises"):
        load_yaml(text, "c.yaml")
    monkeypatch.setenv("MEBNS_LIMITS", "3")
    assert len(load_yaml(text, "c.yaml")["a"]) == 100_001


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seed_everything", "9" * 5_000], "digits; allowed are 300"),
        (["--data.split", "[" * 500], "nested levels"),
        (["--data.eval_negatives", NULL], "got 'null'; allowed is an integer"),
        (["--model=MeBNS", "--model.weight_net.inputs", "null"], "inputs: got 'null'; allowed is"),
        (["--data.eval_negatives", "mebns_pl.CachedNegatives"], "the bare name CachedNegatives is enough"),
        (["--data.eval_negatives", "CachedNegatives"], "required: negatives"),
    ],
)  # fmt: skip
def test_options_of_the_command_line_are_bounded_too(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.run(["fit", *options])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in line
    assert len(line) < 700


def test_what_was_given_is_never_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("CachedNegatives", "mebns_pl.CachedNegatives", "mebns_pl.evaluation.negative_cache.CachedNegatives"):
        with pytest.raises(SystemExit):
            cli.run(["fit", "--data.eval_negatives", given])
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert "allowed" not in line, line
        assert "negatives" in line
    with pytest.raises(SystemExit):
        cli.run(["fit", "--data.eval_negatives", "CashedNegatives"])
    assert "allowed is CachedNegatives, HeartNegatives" in capsys.readouterr().err


# Sizes


@pytest.mark.parametrize("width", [0, 10**9])
def test_widths_that_cannot_be_are_refused_with_their_memory(width: int) -> None:
    import mebns_pl

    spec = LinkDataModule().spec
    featureless = spec._replace(num_features=0)
    makers: list[Callable[[], object]] = [
        *(lambda name=name, of=of: getattr(mebns_pl, name)(of, hidden_channels=width)
          for name in ("GCN", "SAGE", "GAT", "SEAL", "NCN", "LPFormer") for of in (spec, featureless)),
        lambda: mebns_pl.MLPDecoder(16, hidden_channels=width),
        lambda: mebns_pl.WeightNet(hidden_channels=width) if width < 1 else fits(10**20, hidden_channels=width),
    ]  # fmt: skip
    told = "expected 1 or more, got 0" if width < 1 else r"got 1000000000, which would take [\d,.]+ GiB; allowed is"
    for make in makers:
        with pytest.raises(ValueError, match=f"hidden_channels: {told}"):
            make()


def test_numbers_of_pairs_that_no_memory_holds_are_refused_before_a_run() -> None:
    from lightning.pytorch import Trainer

    from mebns_pl import MigrationMonitor, RandomNegatives, Sampler

    def check(system: Plain | None = None, callbacks: list[object] | None = None, **data: object) -> None:
        module = LinkDataModule(**data)
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=callbacks)
        check_run("fit", system or Plain(module.spec), module, trainer)

    spec = LinkDataModule().spec
    for refuse, name in (
        (lambda: check(Plain(spec, sampler=Sampler(num_candidates=10**9))), "model.sampler.num_candidates"),
        (lambda: check(eval_negatives=RandomNegatives(10**9)), "data.eval_negatives.num_negatives"),
        (lambda: check(callbacks=[MigrationMonitor(10**9 * 100)]), "migration.probe_size"),
    ):
        with pytest.raises(ValueError, match=rf"{name}: got \d+, which would take [\d,.]+ GiB"):
            refuse()
    from mebns_pl import UMDCollector

    for number in (0, 10**9):
        with pytest.raises(ValueError, match=f"num_strata: expected .*, got {number}"):
            UMDCollector(num_strata=number)


# Weights and features that are no numbers


def test_scores_that_are_no_numbers_end_a_prediction() -> None:
    data = LinkDataModule()
    system = Plain(data.spec)
    with torch.no_grad():
        next(system.student.parameters()).fill_(torch.nan)
    pairs = PredictionPairs(nodes=[data.loaded.node_names[0]])
    names = data.loaded.node_names
    with pytest.raises(DataError, match=r"predict: the score of nodes \d+ and \d+ is NaN"):
        predict_links(system, data, pairs=pairs)
    with pytest.raises(DataError, match="is NaN"):
        score_links(system, data, pd.DataFrame({"source": names[:1], "target": names[1:2]}))
    assert len(predict_links(Heuristic(data.spec), data, top_k=3, pairs=pairs))


def test_mapped_features_that_are_no_numbers_are_found_when_they_are_read() -> None:
    Path("g.csv").write_text("source,target\n" + "".join(f"{u},{v}\n" for u, v in RING))
    x = np.ones((30, 5), np.float32)
    for value in (np.nan, np.inf, -np.inf):
        x[17, 3] = value
        np.save("x.npy", x)
        with pytest.raises(DataError, match=rf"x\.npy, row 17, column 3: got {value}; allowed are finite numbers"):
            _ = LinkDataModule("g.csv", nodes="x.npy").loaded
    x[:] = np.finfo(np.float32).max
    np.save("x.npy", x)
    assert LinkDataModule("g.csv", nodes="x.npy").spec.num_features == 5


# Columns on the command line


def test_columns_are_options() -> None:
    parser = command_line_parser()
    given = parser.parse_args(
        [
            *("fit", "--data.graph=g.txt", "--data.columns.source=0", "--data.columns.target=1"),
            *("--data.columns.weight=2", "--data.columns.ignore=[a, b]", "--data.columns.label=kind"),
            *("--data.columns.bipartite=true", "--data.time_column=3"),
        ]
    )
    columns = GraphColumns(**given.fit.data.columns.as_dict())
    assert columns == GraphColumns(0, 1, ignore=["a", "b"], label="kind", weight=2, bipartite=True)
    assert given.fit.data.time_column == 3


def test_columns_go_with_files_of_ones_own() -> None:
    with pytest.raises(DataError, match="columns: they go with a file of one's own, not with 'air_routes'"):
        _ = LinkDataModule(columns=GraphColumns(bipartite=True)).spec
    np.savez("g.npz", edges=np.array(RING))
    with pytest.raises(DataError, match=r"columns\.node: \.npz files have none to choose from"):
        _ = LinkDataModule("g.npz", columns=GraphColumns(node="name")).spec
    Path("e.csv").write_text("a,b\n" + "".join(f"n{u},n{v}\n" for u, v in RING))
    Path("n.csv").write_text("id,age,type\n" + "".join(f"n{i},{i},{'xy'[i % 2]}\n" for i in range(30)))
    data = LinkDataModule("e.csv", nodes="n.csv", columns=GraphColumns("a", "b", "id", ignore=["type"]))
    pairs = PredictionPairs(source_type="x", target_type="y")
    links = predict_links(Plain(data.spec), data, top_k=5, pairs=pairs)
    assert all(int(name[1:]) % 2 == 0 for name in links["source"])


def test_names_reach_no_markup_in_a_whole_run(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["[/b1]", "$x", "=1+1", "\x1b[31m", "<b>"] + [f"n{i}" for i in range(25)]
    table = pd.DataFrame([(names[u], names[v]) for u, v in RING], columns=["source", "target"])
    table.to_parquet("g.parquet")
    quiet = ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    cli.main(["predict", "--model=Heuristic", "--data.graph=g.parquet", "--predictions.path=p.csv", *quiet])
    said = capsys.readouterr()
    assert "\x1b[31m" not in said.out + said.err
    written = pd.read_csv("p.csv", keep_default_na=False)
    assert not written["source"].str.startswith("=").any()


@pytest.mark.parametrize("read", [read_study, lambda path: frame_of_runs([path.parent])], ids=["study", "report"])
def test_studies_and_runs_of_a_report_are_bounded_too(read: Callable[[Path], object], tmp_path: Path) -> None:
    """Nine ways and twelve levels of aliases: 9^12 values."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 13)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(["a0: &a0 [x]", *levels]))
    (tmp_path / "metrics.json").write_text('{"format": 1}')
    with pytest.raises(DataError, match=r"config\.yaml, line \d+: .*YAML nodes"):
        read(path)
