"""Runs as they come: checked, with gaps, notes and curves; and folders of single runs in the same shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mebns_pl.errors import DataError
from mebns_pl.metrics_json import load_metrics
from mebns_pl.report.comparisons import compare, questions
from mebns_pl.report.folders import find_runs, frame_of_runs
from mebns_pl.report.results import curves, gaps, results_of, run_notes
from references.studies import made_up_study, write_study

TWO = {"graph": ["air_routes"], "model": ["gcn_mlp"], "system": ["Plain", "MeBNS"]}
STUDY = Path("study")


def test_arms_are_the_axes_that_vary() -> None:
    results = results_of(made_up_study(TWO, 3), "test/mrr", STUDY)
    assert results.arms == ["Plain", "MeBNS"]
    assert results.varied == ["system"]
    assert results.constant == {"model": "gcn_mlp"}
    assert results.graphs == ["air_routes"]
    (alone,) = results_of(made_up_study({"graph": ["a"]}, 2), "test/mrr", STUDY).arms
    assert alone == "all runs"


def test_without_an_axis_of_graphs_the_options_name_it() -> None:
    frame = made_up_study({"system": ["Plain", "MeBNS"]}, 2)
    assert results_of(frame, "test/mrr", STUDY).graphs == ["air_routes"]


def test_an_axis_that_some_runs_have_not_is_a_dash() -> None:
    frame = made_up_study({**TWO, "sampler": ["dns"]}, 2)
    frame.loc[frame["axis/system"] == "Plain", "axis/sampler"] = None
    assert results_of(frame, "test/mrr", STUDY).arms == ["Plain, -", "MeBNS, dns"]


def test_every_gap_is_listed_with_its_reason() -> None:
    frame = made_up_study(TWO, 5)
    of_mebns = frame["axis/system"] == "MeBNS"
    frame.loc[of_mebns & frame["seed"].isin([0, 1]), ["status", "error"]] = ["failed", "out of\nmemory"]
    frame.loc[of_mebns & (frame["seed"] == 2), "status"] = "waiting"
    frame.loc[of_mebns & (frame["seed"] == 3), "test/mrr"] = None
    frame = frame[~((frame["axis/system"] == "Plain") & (frame["seed"] == 4))]
    table = gaps(results_of(frame, "test/mrr", STUDY))
    assert table[["arm", "reason", "seeds", "runs"]].to_numpy().tolist() == [
        ["MeBNS", "failed: out of memory", "0/0, 1/1", 2],
        ["MeBNS", "waiting", "2/2", 1],
        ["MeBNS", "finished without test/mrr", "3/3", 1],
        ["Plain", "no such run", "4/4", 1],
    ]


def test_a_failed_run_has_no_value_even_if_a_number_stands_there() -> None:
    frame = made_up_study(TWO, 2)
    frame.loc[0, "status"] = "failed"
    assert results_of(frame, "test/mrr", STUDY).frame["value"].isna().tolist() == [True, False, False, False]


def test_what_cannot_be_reported_is_told_in_one_line() -> None:
    frame = made_up_study(TWO, 2)
    with pytest.raises(DataError, match="study: results of another version: no column split_seed"):
        results_of(frame.drop(columns="split_seed"), "test/mrr", STUDY)
    with pytest.raises(DataError, match=r"study: no finished runs to report on \(4 waiting\)"):
        results_of(frame.assign(status="waiting"), "test/mrr", STUDY)
    with pytest.raises(DataError, match=r"study: no finished runs to report on \(no runs\)"):
        results_of(frame[:0], "test/mrr", STUDY)
    with pytest.raises(
        DataError, match="metric: got 'mrr'; the finished runs of study have val/mrr, test/mrr, test/auc"
    ):
        results_of(frame, "mrr", STUDY)
    frame.loc[1, ["seed", "split_seed"]] = 0
    with pytest.raises(DataError, match="study: runs 00000000 and 00000001 are of the same arm"):
        results_of(frame, "test/mrr", STUDY)


def test_notes_are_counted() -> None:
    frame = made_up_study(TWO, 3)
    frame.loc[[0, 2], "notes"] = json.dumps([{"code": "constant-scores", "text": "all alike"}])
    frame.loc[4, "notes"] = "{"
    found = run_notes(results_of(frame, "test/mrr", STUDY))
    assert found[["code", "arm", "runs"]].to_numpy().tolist() == [
        ["constant-scores", "Plain", 2],
        ["unreadable", "MeBNS", 1],
    ]


def test_curves_are_means_over_the_runs_at_each_epoch(tmp_path: Path) -> None:
    frame = made_up_study(TWO, 3)
    folder = write_study(frame, tmp_path / "study")
    found = curves(results_of(frame, "test/mrr", folder))
    last = found[(found["arm"] == "MeBNS") & (found["epoch"] == 60)].iloc[0]
    ends = []
    for path in frame.loc[frame["axis/system"] == "MeBNS", "folder"]:
        ends.append(json.loads((folder / path / "metrics.json").read_text())["fit"]["curves"]["val/mrr"][-1])
    assert (last["mean"], last["low"], last["high"], last["runs"]) == (
        pytest.approx(sum(ends) / 3),
        min(ends),
        max(ends),
        3,
    )
    assert curves(results_of(frame, "test/auc", folder)).empty
    assert curves(results_of(frame, "test/mrr", tmp_path / "nowhere")).empty


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "not JSON"), ('{"format": 2}', "got format 2; this version reads 1"), ("[]", "got format None")],
)
def test_metrics_of_another_version_are_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=told):
        load_metrics(tmp_path / "metrics.json")


# --- folders of single runs ---


def write_run(folder: Path, system: str, seed: int, mrr: float | None, **model: Any) -> Path:
    folder.mkdir(parents=True)
    config = {
        "seed_everything": seed,
        "trainer": {"max_epochs": 3, "logger": {"init_args": {"name": folder.name}}},
        "model": {"class_path": f"mebns_pl.{system}", "init_args": {"lr": 0.01, **model}},
        "data": {"graph": "air_routes", "split_seed": None},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if mrr is not None:
        metrics = {"format": 1, "fit": {"val": {"mrr": 0.2}, "seconds": 3.5}, "test": {"metrics": {"mrr": mrr}}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_folders_of_runs_are_rows_by_system_and_differing_options(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / "plain" / f"version_{seed}", "Plain", seed, 0.2, sampler={"num_candidates": 8})
        write_run(tmp_path / "small" / f"version_{seed}", "Plain", seed, 0.1, sampler={"num_candidates": 1})
        mebns = {"sampler": {"num_candidates": 8}, "schedule": {"warmup": 5}}
        write_run(tmp_path / "mebns" / f"version_{seed}", "MeBNS", seed, 0.3 if seed else None, **mebns)
    frame = frame_of_runs(find_runs([tmp_path]))
    results = results_of(frame, "test/mrr", tmp_path)
    assert results.axes == ("system", "num_candidates")  # warmup is MeBNS's alone
    assert set(results.arms) == {"MeBNS, 8", "Plain, 8", "Plain, 1"}
    found = compare(results, questions(results))
    assert [(one.value, one.setting, one.difference.pairs, one.planned) for one in found] == [("MeBNS", "8", 1, 2)]
    assert gaps(results)["reason"].iloc[0].startswith("running: no metrics.json")


def test_options_that_change_together_are_one_axis(tmp_path: Path) -> None:
    write_run(tmp_path / "one", "Plain", 0, 0.2, encoder={"class_path": "mebns_pl.GCN", "init_args": {"hidden": 8}})
    write_run(tmp_path / "two", "Plain", 0, 0.3, encoder={"class_path": "mebns_pl.SAGE", "init_args": {"hidden": 9}})
    results = results_of(frame_of_runs(find_runs([tmp_path])), "test/mrr", tmp_path)
    assert results.varied == ["encoder"]
    assert results.arms == ["GCN", "SAGE"]


def test_runs_are_found_in_their_order_and_once(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"version_{number}", "Plain", number, 0.2) for number in (2, 10, 1)]
    assert find_runs([tmp_path, runs[0]]) == [tmp_path / f"version_{number}" for number in (1, 2, 10)]


def test_runs_of_the_same_options_and_seeds_are_refused(tmp_path: Path) -> None:
    for name in ("version_0", "version_1"):
        write_run(tmp_path / name, "Plain", 0, 0.2)
    with pytest.raises(DataError, match="version_0 and .*version_1 are of the same arm"):
        results_of(frame_of_runs(find_runs([tmp_path])), "test/mrr", tmp_path)


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no study \(results.sqlite\) and no runs"):
        find_runs([tmp_path])
    with pytest.raises(DataError, match="no such folder"):
        find_runs([tmp_path / "none"])
    (tmp_path / "config.yaml").write_text("- a")
    with pytest.raises(DataError, match="config.yaml: got list"):
        frame_of_runs([tmp_path])
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(DataError, match=r"config.yaml: not YAML"):
        frame_of_runs([tmp_path])


def test_an_axis_named_as_the_option_is_that_of_graphs() -> None:
    frame = made_up_study({"data.graph": ["cora", "usair"], "system": ["Plain", "MeBNS"]}, 3)
    results = results_of(frame, "test/mrr", STUDY)
    assert (results.graphs, results.arms) == (["cora", "usair"], ["Plain", "MeBNS"])
    assert gaps(results).empty


def test_two_files_of_one_name_are_two_graphs(tmp_path: Path) -> None:
    for place, seed in (("a", 0), ("b", 0), ("b", 1)):
        folder = write_run(tmp_path / place / f"version_{seed}", "Plain", seed, 0.2)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["data"]["graph"] = f"{tmp_path}/{place}/edges.csv"
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    results = results_of(frame_of_runs(find_runs([tmp_path])), "test/mrr", tmp_path)
    assert results.graphs == ["a/edges.csv", "b/edges.csv"]
