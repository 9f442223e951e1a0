"""The store: runs are taken once, taken up again, and never lost; files of others are refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from mebns_pl.errors import DataError
from mebns_pl.study import store as module
from mebns_pl.study.outcome import read_outcome
from mebns_pl.study.plan import PlannedRun
from mebns_pl.study.store import Outcome, Store, read_results, this_process
from references.processes import in_processes

ABOUT = {"commit": "c", "version": "v", "machine": "m", "folder": "runs/x"}


def planned(count: int, first: int = 0) -> list[PlannedRun]:
    return [
        PlannedRun(f"r{i}", {"graph": f"g{i % 2}", "system": "Plain"}, None, i, {"data.graph": f"g{i % 2}"}, (), {})
        for i in range(first, first + count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.add(planned(3))
    return store


def test_a_run_is_taken_once_and_in_the_studys_order(store: Store) -> None:
    taken = [store.claim(f"worker {i}") for i in range(4)]
    assert [None if claimed is None else claimed.run for claimed in taken] == ["r0", "r1", "r2", None]


def test_what_came_of_a_run_is_in_the_table(store: Store) -> None:
    store.claim("one"), store.claim("two")
    notes = [{"code": "constant-scores", "text": "all scores are equal"}]
    metrics = {"val/mrr": 0.5, "test/mrr": None}
    assert store.finish("one", "r0", Outcome(metrics, 3, 4, 1.5, 100.0, 0.25, None, notes), ABOUT)
    assert store.fail("two", "r1", "no such graph", ABOUT)
    table = read_results(store.folder).set_index("run")
    assert list(table.status) == ["done", "failed", "waiting"]
    assert table.loc["r1", "error"] == "no such graph"
    assert list(table["axis/graph"]) == ["g0", "g1", "g0"]
    assert list(table.seed) == list(table.split_seed) == [0, 1, 2]  # coupled
    done = table.loc["r0"]
    assert (done["val/mrr"], done.best_epoch, done.epochs, done.seconds, done.churn) == (0.5, 3, 4, 1.5, 0.25)
    assert done[["test/mrr", "unevenness"]].isna().all()
    assert json.loads(done.notes) == notes
    assert json.loads(done.config) == {"data.graph": "g0"}
    assert (done.folder, done.commit, done.version, done.machine) == ("runs/x", "c", "v", "m")


def test_who_has_made_what_is_done(store: Store) -> None:
    assert store.commits() == {}
    for place, commit in enumerate(("old", None, "new")):
        store.claim("one")
        store.finish("one", f"r{place}", Outcome({}, 3, 4, 1.5, 100.0, 0.25, None, []), {**ABOUT, "commit": commit})
    store.add(planned(5))
    store.claim("one"), store.fail("one", "r3", "no such graph", ABOUT)
    assert store.commits() == {"old": 1, "new": 1}
    store.add(planned(1))  # the study has one run now
    assert store.commits() == {"old": 1}


def test_the_columns_are_those_agreed_on(store: Store) -> None:
    store.claim("one")
    store.finish("one", "r0", Outcome({"val/mrr": 0.5, "test/mrr": 0.4}), ABOUT)
    assert list(read_results(store.folder)) == [
        "run", "status", "error", "axis/graph", "axis/system", "split_seed", "seed", "config", "commit", "version",
        "machine", "folder", "val/mrr", "test/mrr", "best_epoch", "epochs", "seconds", "peak_memory_mib", "churn",
        "unevenness", "notes", "finished",
    ]  # fmt: skip


def test_a_run_whose_worker_is_silent_is_anothers_and_the_first_learns_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.claim("one") is not None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + module.LEASE - 1)
    assert store.live("one", "r0")
    monkeypatch.setattr(time, "time", lambda: now + module.LEASE + 1)
    taken = store.claim("two")
    assert taken is not None
    assert taken.run == "r1"  # the first has lived
    monkeypatch.setattr(time, "time", lambda: now + 2 * module.LEASE)
    taken = store.claim("three")
    assert taken is not None
    assert taken.run == "r0"
    assert not store.live("one", "r0")
    assert not store.finish("one", "r0", Outcome({}), ABOUT)
    assert store.live("three", "r0")


def test_runs_of_processes_that_are_no_more_are_given_back(store: Store) -> None:
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0,))
    child.start()
    child.join()
    store.claim(this_process(child.pid)), store.claim(this_process()), store.claim("elsewhere/pid:[1]/1")
    store.release_dead()
    assert list(read_results(store.folder).status) == ["waiting", "running", "running"]


def test_a_run_that_takes_workers_with_it_fails(store: Store) -> None:
    for number in range(module.MOST_DEATHS):
        assert store.counts()["failed"] == 0
        store.claim(f"worker {number}")
        store.release(f"worker {number}", dead=True)
    assert read_results(store.folder).error[0] == "3 workers have died of it"
    assert store.retry() == 1
    assert store.counts() == {"done": 0, "failed": 0, "running": 0, "waiting": 3}
    for number in range(module.MOST_DEATHS + 1):  # stopped, not dead
        store.claim(f"worker {number}")
        store.release(f"worker {number}")
    assert store.counts()["waiting"] == 3


def test_a_run_that_silences_its_workers_fails_and_the_next_is_taken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    store.claim("told to stop"), store.release("told to stop")
    for number in range(module.MOST_DEATHS):
        monkeypatch.setattr(time, "time", lambda late=number: now + 2 * late * module.LEASE)
        taken = store.claim(f"worker {number}")
        assert taken is not None
        assert taken.run == "r0"
    monkeypatch.setattr(time, "time", lambda: now + 2 * module.MOST_DEATHS * module.LEASE)
    taken = store.claim("the next")
    assert taken is not None
    assert taken.run == "r1"
    table = read_results(store.folder)
    assert list(table.status) == ["failed", "running", "waiting"]
    assert table.error[0] == "3 workers have died of it"
    assert table.finished.notna()[0]
    assert not store.finish(f"worker {module.MOST_DEATHS - 1}", "r0", Outcome({}), ABOUT)


def test_an_edited_study_keeps_what_is_done_and_runs_no_more_what_is_gone(store: Store) -> None:
    store.claim("one"), store.claim("one")
    store.finish("one", "r0", Outcome({"val/mrr": 0.5}), ABOUT)
    store.finish("one", "r1", Outcome({"val/mrr": 0.6}), ABOUT)
    assert store.add(planned(3, first=1)) == 1
    assert list(read_results(store.folder).run) == ["r1", "r2", "r3"]
    assert read_results(store.folder)["val/mrr"][0] == 0.6
    assert [store.claim("two").run for _ in range(2)] == ["r2", "r3"]
    assert store.add(planned(4)) == 0  # back again, and not run twice
    assert read_results(store.folder)["val/mrr"][0] == 0.5
    assert store.claim("two") is None


def work(rank: int, folder: str) -> None:
    store, name = Store(Path(folder)), f"w{rank}"
    while (claimed := store.claim(name)) is not None:
        store.finish(name, claimed.run, Outcome({"val/mrr": 0.5}), {**ABOUT, "machine": name})


def test_many_processes_take_every_run_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(planned(40))
    in_processes(work, str(tmp_path), ranks=3)
    assert store.counts()["done"] == 40
    assert sum(Counter(read_results(tmp_path).machine).values()) == 40


def test_results_of_another_format_are_refused(store: Store) -> None:
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    for use in (store.counts, store.known, lambda: read_results(store.folder), lambda: store.add([])):
        with pytest.raises(DataError, match=r"results.sqlite: format 7, of another version .* reads format 1"):
            use()


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / module.FILE).write_text("a text, and no table" * 100)
    with pytest.raises(DataError, match=r"results.sqlite: file is not a database; what was done before stays"):
        Store(tmp_path).counts()
    (tmp_path / module.FILE).unlink()
    connection = sqlite3.connect(tmp_path / module.FILE)
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    with pytest.raises(DataError, match="not the results of a study; choose another folder with --out"):
        Store(tmp_path).add(planned(1))


def test_a_full_disk_is_told_and_what_was_done_stays(store: Store) -> None:
    store.claim("one")
    store.finish("one", "r0", Outcome({"val/mrr": 0.5}), ABOUT)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size, before[1]))
        with pytest.raises(DataError, match=r"results.sqlite: .*; what was done before stays"):
            store.add(planned(500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(read_results(store.folder).status) == ["done", "waiting", "waiting"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="unable to open database file"):
        Store(tmp_path).add(planned(1))


def test_what_a_run_has_come_to(tmp_path: Path) -> None:
    fit = {"epochs": 5, "best_epoch": 3, "seconds": 2.0, "peak_memory_mib": 9.0, "val": {"mrr": 0.3}, "churn": None}
    test = {"seconds": 1.0, "metrics": {"mrr": 0.2, "auc": None}}
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"format": 1, "fit": fit, "test": test, "notes": [{"code": "c", "text": "t"}]}))
    found = read_outcome(tmp_path)
    assert found.metrics == {"val/mrr": 0.3, "test/mrr": 0.2, "test/auc": None}
    assert (found.best_epoch, found.epochs, found.seconds, found.peak_memory_mib) == (3, 5, 3.0, 9.0)
    assert (found.churn, found.unevenness, list(found.notes)) == (None, None, [{"code": "c", "text": "t"}])
    path.write_text(json.dumps({"format": 1, "fit": fit}))
    assert read_outcome(tmp_path, test=False).metrics == {"val/mrr": 0.3}
    for text in ('{"format": 1, "fit": {}}', "{", "[]"):
        path.write_text(text)
        with pytest.raises(DataError, match="does not hold what a finished run writes"):
            read_outcome(tmp_path)


def test_another_study_waits_until_what_is_at_work_has_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the first would end as if all of it were done."""
    store.claim("one")
    store.add(planned(5))  # more of the same
    with pytest.raises(DataError, match=r"1 runs of another study, .*are at work \(r0\); wait for their end"):
        store.add(planned(3, first=1))
    assert store.counts() == {"done": 0, "failed": 0, "running": 1, "waiting": 4}
    monkeypatch.setattr(module, "LEASE", -1.0)  # that worker is silent
    assert store.add(planned(3, first=1)) == 2
