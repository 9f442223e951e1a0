"""The explorer's page: what it holds, that names stay text, that it is bounded; and which folders are refused."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mebns_pl.analysis.probe_history import NAME, read_history, write_history
from mebns_pl.callbacks.card import _migration
from mebns_pl.errors import DataError
from mebns_pl.explore.build import as_page, in_script, packed, page_data, remarks, shown_pairs
from mebns_pl.explore.runs import ExploredRun, control_of, read_landscape, read_runs, verdict_of
from mebns_pl.explore.tables import pair_table
from references.explored import NASTY, made_up_run, trained_runs

RUNS = [made_up_run("plain"), made_up_run(NASTY, "MeBNS", seed=3)]


def unpacked(found: dict[str, object]) -> np.ndarray:
    kinds = {"Float32Array": "<f4", "Uint16Array": "<u2", "Uint8Array": "<u1"}
    data = gzip.decompress(base64.b64decode(str(found["data"])))
    return np.frombuffer(data, kinds[str(found["kind"])]).reshape(found["shape"])  # type: ignore[call-overload]


def distinct(run: ExploredRun) -> list[int]:
    """Where pairs stand first."""
    keys = [frozenset(pair) for pair in run.history.pairs.T.tolist()]
    return [place for place, key in enumerate(keys) if key not in keys[:place]]


def data_in(page: str) -> dict[str, object]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(text)  # type: ignore[no-any-return]


def test_the_page_holds_all_that_was_kept() -> None:
    data = data_in(as_page(RUNS))
    assert data == page_data(RUNS)
    for run, found in zip(RUNS, data["runs"], strict=True):  # type: ignore[call-overload]
        history, pairs = run.history, pair_table(run.history).iloc[distinct(run)]
        for name, expected in (
            ("student", history.student),
            ("hard", history.hard),
            ("counts", history.counts),
            ("weights", history.weights),
        ):
            np.testing.assert_array_equal(unpacked(found[name]), expected[..., distinct(run)])
        assert found["epochs"] == history.epochs.tolist()
        assert found["border"] == pytest.approx(history.border.tolist(), rel=1e-5)
        for name, values in found["pairs"].items():
            told = [np.nan if value is None else value for value in values]
            assert told == pytest.approx(pairs[name].tolist(), rel=1e-5, nan_ok=True)
        assert (found["teacher"] is None) == (run.history.setting.system == "Plain")


def test_names_are_text_wherever_they_stand() -> None:
    page = as_page(RUNS)
    assert "<img src=x" not in page
    assert page.count("</script>") == page.count("<script")
    assert data_in(page)["names"][0] == "</script><img src=x onerror=alert(1)>&\\u2028'\"\\u202e"  # type: ignore[index]
    assert json.loads(in_script(NASTY)) == NASTY


def test_many_pairs_are_sampled_which_is_said() -> None:
    places = shown_pairs(RUNS[0].history, 40)
    assert len(set(places.tolist())) == 40
    assert set(places.tolist()) <= set(distinct(RUNS[0]))
    assert (np.diff(places) > 0).all()
    data = page_data(RUNS, most_pairs=40)
    assert data["ends"] == RUNS[0].history.places[:, places].T.tolist()
    np.testing.assert_array_equal(unpacked(data["runs"][1]["student"]), RUNS[1].history.student[:, places])
    assert any("a random sample of 40" in remark for remark in remarks(RUNS, 40))
    assert not any("sample" in remark for remark in remarks(RUNS))
    assert f"the list has {len(distinct(RUNS[0]))}, each once" in remarks(RUNS)[1]
    assert "a random sample of 40" in as_page(RUNS, most_pairs=40)
    rare = made_up_run(epochs=3)
    rare = replace(rare, history=replace(rare.history, epochs=np.array([0, 4, 8])))
    assert any("every 4th epoch is kept" in remark for remark in remarks([rare]))


def test_ten_thousand_pairs_and_three_runs_stay_bounded() -> None:
    many = [made_up_run(str(seed), pairs=10_000, epochs=64, seed=seed) for seed in range(3)]
    size = sum(len(packed(run.history.student)["data"]) for run in many)
    assert size < 14e6


def test_what_a_run_is_held_against() -> None:
    def run(system: str, selector: str = "FirstSelector", seed: int = 0) -> ExploredRun:
        made = made_up_run(system, system)
        setting = replace(made.history.setting, sampler=("UniformProposal", selector), seed=seed)
        return replace(made, history=replace(made.history, setting=setting))

    plain, other, dns = run("Plain"), run("Plain", seed=1), run("Plain", "HardestSelector")
    mebns, mebns_dns, second = run("MeBNS"), run("MeBNS", "HardestSelector"), run("MeBNS", seed=1)
    everything = [dns, plain, other, mebns, mebns_dns, second]
    expected = [(plain, None), (other, None), (dns, plain), (mebns, plain), (mebns_dns, dns), (second, other)]
    for one, control in expected:
        assert control_of(one, everything) is control
    assert control_of(mebns, [mebns]) is None
    assert control_of(dns, [dns, mebns]) is None


# --- folders ---


def test_runs_in_folders(tmp_path: Path) -> None:
    trained_runs(tmp_path, epochs=3)
    both = read_runs([tmp_path])
    assert [run.name for run in both] == ["MeBNS", "Plain"]
    again = read_runs([tmp_path / "Plain" / "version_0", tmp_path])
    assert [run.name for run in again] == ["Plain", "MeBNS"]
    learned = both[0].fit["diagnosis"]
    assert {"weights/learned", "held_out/candidates", "num_candidates"} <= learned.keys()
    assert "weights/learned" not in both[1].fit["diagnosis"]
    assert both[0].landscape is None
    (tmp_path / "landscape").mkdir()
    rows = "name,loss,top_eigenvalue,trace,trace_error\nMeBNS_version_0_best,1,2,3,4\nMeBNS_version_01_best,5,6,7,8\n"
    (tmp_path / "landscape" / "landscape.csv").write_text(rows)
    found = read_runs([tmp_path])
    assert found[0].landscape is not None
    assert found[0].landscape.to_dict("records") == [
        {"loss": 1, "top_eigenvalue": 2, "trace": 3, "trace_error": 4, "checkpoint": "best"}
    ]
    assert found[1].landscape is None
    (tmp_path / "landscape" / "landscape.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"landscape.csv: no table of landscapes; its columns are a, b"):
        read_runs([tmp_path])
    with pytest.raises(DataError, match=r"landscape.csv: no such file"):
        read_landscape(tmp_path / "Plain", tmp_path / "none")


def test_the_card_says_what_the_explorer_says(tmp_path: Path) -> None:
    runs, _ = trained_runs(tmp_path, epochs=4)
    plain, mebns = (run.folder for run in runs)
    assert plain is not None
    assert mebns is not None
    said = _migration(mebns / "metrics.json", plain)
    assert said == [finding.text for finding in verdict_of(runs[1], runs)]
    assert len(said) == 5
    (mebns / NAME).write_bytes(b"damaged")
    assert "this run has kept no probe" in _migration(mebns / "metrics.json", plain)[0]
    assert _migration(tmp_path / "metrics.json", None) == _migration(None, None) == []


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    history = made_up_run().history
    names = ("one", "other", "short", "empty", "waiting")
    for name in names:
        (tmp_path / name / "version_0").mkdir(parents=True)
    one, other, short, empty, waiting = (tmp_path / name for name in names)
    write_history(history, one / "version_0" / NAME)
    write_history(replace(history, pairs=history.pairs[:, ::-1].copy()), other / "version_0" / NAME)
    whole = (one / "version_0" / NAME).read_bytes()
    (short / "version_0" / NAME).write_bytes(whole[: len(whole) // 2])
    (waiting / "version_0" / "config.yaml").touch()
    for folders, told in (
        ([tmp_path / "none"], "none: no such folder"),
        ([empty], "empty: no run in it; allowed is the folder of a run"),
        ([waiting / "version_0"], "version_0: the run has kept no probe"),
        ([short], "migration.npz: no .npz archive"),
        ([one, other], "version_0: it has watched other pairs than"),
        ([], "run: got none"),
    ):
        with pytest.raises(DataError, match=re.escape(told)):
            read_runs(folders)
    for number in range(8):
        write_history(history, tmp_path / "many" / f"version_{number}" / NAME)
    with pytest.raises(DataError, match="got 8 runs; allowed are 7"):
        read_runs([tmp_path / "many"])


def test_histories_that_do_not_hold_together(tmp_path: Path) -> None:
    history, path = made_up_run().history, tmp_path / NAME
    write_history(history, path)
    found = read_history(path)
    for name in ("pairs", "student", "counts", "weights", "common", "held_out"):
        np.testing.assert_array_equal(getattr(found, name), getattr(history, name))
    assert (found.setting, found.names, found.types) == (history.setting, history.names, history.types)
    for changes, told in (
        ({"student": history.student[1:]}, r"its student have the shape \(11, 300\)"),
        ({"epochs": history.epochs[::-1].copy()}, "out of order"),
        ({"names": history.names[1:]}, "names or nodes are missing"),
        ({"pairs": history.pairs + 1}, "names or nodes are missing"),
        ({"weights": history.weights.astype(np.float64)}, "with other numbers"),
    ):
        write_history(replace(history, **changes), path)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=told):
            read_history(path)
    np.savez(path, pairs=history.pairs)
    with pytest.raises(DataError, match="no history of a probe: .*student.* missing"):
        read_history(path)
