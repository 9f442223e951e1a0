"""What became of the runs of a study: a SQLite file that many workers share, on one host or on many."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from mebns_pl.errors import DataError
from mebns_pl.study.plan import PlannedRun

FILE = "results.sqlite"
FORMAT = 1
"""Of the file; counted up when its tables change."""
_OURS = 0x6D65626E
"""SQLite's application id of these files: "mebn"."""
LEASE = 120.0
"""Seconds after which a run whose worker gives no sign of life is another's."""
PATIENCE = 60.0
"""Seconds that a process waits while others write."""
MOST_DEATHS = 3
"""So many workers a run may take with it before it counts as failed."""
_DIED = f"{MOST_DEATHS} workers have died of it"
_TABLE = """
CREATE TABLE runs (
    run TEXT PRIMARY KEY, place INTEGER, wanted INTEGER, checked INTEGER DEFAULT 0, status TEXT DEFAULT 'waiting',
    owner TEXT, sign_of_life REAL, deaths INTEGER DEFAULT 0, error TEXT, axes TEXT, split_seed INTEGER, seed INTEGER,
    config TEXT, arguments TEXT, test INTEGER, search TEXT, "commit" TEXT, version TEXT, machine TEXT, folder TEXT,
    metrics TEXT, best_epoch INTEGER, epochs INTEGER, seconds REAL, peak_memory_mib REAL, churn REAL, unevenness REAL,
    notes TEXT, finished TEXT
)
"""
_COLUMNS = ("run", "status", "error")
_AFTER = (
    "split_seed", "seed", "config", "commit", "version", "machine", "folder",
)  # fmt: skip
_OUTCOME = ("best_epoch", "epochs", "seconds", "peak_memory_mib", "churn", "unevenness", "notes", "finished")


@dataclass(frozen=True)
class Outcome:
    """What a run has come to; what is not known is None.

    Args:
        metrics: by ``val/...`` and ``test/...``, in [0, 1].
        best_epoch: that was tested.
        epochs: of training.
        seconds: of training and test.
        peak_memory_mib: of the process while it ran.
        churn: mean share of the hard set that was new, over epochs.
        unevenness: of the weights at the end.
        notes: each with a ``code`` and a ``text``.
    """

    metrics: dict[str, float | None]
    best_epoch: int | None = None
    epochs: int | None = None
    seconds: float | None = None
    peak_memory_mib: float | None = None
    churn: float | None = None
    unevenness: float | None = None
    notes: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Claimed:
    """A run that a worker has taken.

    Args:
        run: its name.
        axes: its values' short names.
        arguments: of ``mebns fit``.
        test: whether its best epoch is tested.
        search: its trial, or None.
        config: its options by name.
    """

    run: str
    axes: dict[str, str]
    arguments: list[str]
    test: bool
    search: dict[str, Any] | None
    config: dict[str, Any]


def this_process(pid: int | None = None) -> str:
    """A name for a process of this host, this one by default, that no other process of any host has meanwhile."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # containers may share a host's name, and have numbers of their own
    except OSError:
        space = ""
    return f"{socket.gethostname()}/{space}/{os.getpid() if pid is None else pid}"


@dataclass(frozen=True)
class Store:
    """The results of a study, in its folder.

    Every method is one transaction, so that a process that is killed at any moment leaves the file whole. There is no
    write-ahead log: its shared memory does not reach other hosts.

    Args:
        folder: of the study.

    Raises:
        DataError: of all methods: the file is none of this format, cannot be read or written, or the disk is full.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection within a transaction that is this process's alone."""
        try:
            with closing(sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)) as connection:
                connection.row_factory = sqlite3.Row
                connection.execute("BEGIN IMMEDIATE")
                with connection:  # commits, or rolls back
                    self._check(connection)
                    yield connection
        except sqlite3.Error as error:
            raise DataError(f"{self.path}: {error}; what was done before stays") from error

    def _check(self, connection: sqlite3.Connection) -> None:
        (ours,) = connection.execute("PRAGMA application_id").fetchone()
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if (ours, found) == (0, 0) and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA application_id = {_OURS}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        elif ours != _OURS:
            raise DataError(f"{self.path}: not the results of a study; choose another folder with --out")
        elif found != FORMAT:
            raise DataError(
                f"{self.path}: format {found}, of another version of mebns_pl; this one reads format {FORMAT}. "
                "Use that version, or begin anew in another folder with --out"
            )

    def add(self, runs: Sequence[PlannedRun]) -> int:
        """Makes these the study's runs; what is known of them stays, and so do others, which are not run any more.

        Returns:
            How many others there are.

        Raises:
            DataError: some of those others are at work.
        """
        rows = [
            {
                "run": run.run,
                "place": place,
                "axes": json.dumps(run.axes),
                "split_seed": run.seed if run.split_seed is None else run.split_seed,
                "seed": run.seed,
                "config": json.dumps(run.config, default=str),
                "arguments": json.dumps(run.arguments(Path("."))),
                "test": run.test,
                "search": None if run.search is None else json.dumps(run.search),
            }
            for place, run in enumerate(runs)
        ]
        own = {run.run for run in runs}
        with self._connected() as connection:
            at_work = connection.execute(
                "SELECT run FROM runs WHERE wanted AND status = 'running' AND sign_of_life >= ?", (time.time() - LEASE,)
            ).fetchall()
            if others := [row["run"] for row in at_work if row["run"] not in own]:
                raise DataError(
                    f"{self.path}: {len(others)} runs of another study, or of this one before it was edited, are at "
                    f"work ({others[0]}); wait for their end, stop that sweep, or take another --out"
                )
            connection.execute("UPDATE runs SET wanted = 0")
            connection.executemany(
                "INSERT INTO runs (run, place, wanted, axes, split_seed, seed, config, arguments, test, search) VALUES "
                "(:run, :place, 1, :axes, :split_seed, :seed, :config, :arguments, :test, :search) "
                "ON CONFLICT (run) DO UPDATE SET wanted = 1, place = :place, axes = :axes, arguments = :arguments",
                rows,
            )
            (left,) = connection.execute("SELECT COUNT(*) FROM runs WHERE NOT wanted").fetchone()
        return int(left)

    def known(self) -> dict[str, str]:
        """Statuses of all runs by their names; none where there is no file, which is not made."""
        if not self.path.exists():
            return {}
        with self._connected() as connection:
            return {row["run"]: row["status"] for row in connection.execute("SELECT run, status FROM runs")}

    def unchecked(self) -> list[Claimed]:
        """Those of the study's runs whose options nobody has looked at, one for all seeds and trials."""
        with self._connected() as connection:
            rows = connection.execute(
                "SELECT * FROM runs WHERE wanted AND NOT checked AND status != 'done' GROUP BY config, axes"
            )
            return [_claimed(row) for row in rows]

    def mark_checked(self) -> None:
        """Says that all of the study's options have been looked at."""
        with self._connected() as connection:
            connection.execute("UPDATE runs SET checked = 1 WHERE wanted")

    def retry(self) -> int:
        """Has the study's failed runs wait again; returns how many they are."""
        with self._connected() as connection:
            return connection.execute(
                "UPDATE runs SET status = 'waiting', error = NULL, deaths = 0 WHERE wanted AND status = 'failed'"
            ).rowcount

    def claim(self, owner: str) -> Claimed | None:
        """Takes the next run that waits, or whose worker has long given no sign of life; None where there is none.

        Such a worker counts as dead: one that is told to stop gives its run back. See :meth:`release`.
        """
        now = time.time()
        with self._connected() as connection:
            connection.execute(
                "UPDATE runs SET status = 'failed', owner = NULL, deaths = deaths + 1, finished = ?, error = ? "
                "WHERE wanted AND status = 'running' AND sign_of_life < ? AND deaths + 1 >= ?",
                (_now(), _DIED, now - LEASE, MOST_DEATHS),
            )
            row = connection.execute(
                "SELECT * FROM runs WHERE wanted AND (status = 'waiting' OR status = 'running' AND sign_of_life < ?) "
                "ORDER BY place LIMIT 1",
                (now - LEASE,),
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE runs SET deaths = deaths + (status = 'running'), status = 'running', owner = ?, "
                "sign_of_life = ?, error = NULL WHERE run = ?",
                (owner, now, row["run"]),
            )
            return _claimed(row)

    def live(self, owner: str, run: str) -> bool:
        """Gives a sign of life; False where the run is another's by now."""
        with self._connected() as connection:
            changed = connection.execute(
                "UPDATE runs SET sign_of_life = ? WHERE run = ? AND owner = ? AND status = 'running'",
                (time.time(), run, owner),
            )
            return changed.rowcount == 1

    def release(self, owner: str, dead: bool = False) -> int:
        """Gives back what a worker has taken, to be gone on with.

        Args:
            owner: the worker.
            dead: whether it has died of it; a run that has taken several workers with it counts as failed.

        Returns:
            How many runs it had.
        """
        with self._connected() as connection:
            given_back = connection.execute(
                "UPDATE runs SET status = 'waiting', owner = NULL, deaths = deaths + ? "
                "WHERE owner = ? AND status = 'running'",
                (int(dead), owner),
            ).rowcount
            connection.execute(
                "UPDATE runs SET status = 'failed', finished = ?, error = ? WHERE status = 'waiting' AND deaths >= ?",
                (_now(), _DIED, MOST_DEATHS),
            )
        return given_back

    def release_dead(self) -> None:
        """Gives back the runs of workers of this host that are no more."""
        here = this_process().rpartition("/")[0]
        with self._connected() as connection:
            owners = {row["owner"] for row in connection.execute("SELECT owner FROM runs WHERE status = 'running'")}
        for owner in owners:
            host, _, pid = owner.rpartition("/")
            if host == here and not _is_alive(int(pid)):
                self.release(owner)

    def finish(self, owner: str, run: str, outcome: Outcome, about: Mapping[str, str | None]) -> bool:
        """Writes down what a run has come to.

        Args:
            owner: the worker.
            run: the run.
            outcome: what it has come to.
            about: ``commit``, ``version``, ``machine`` and ``folder``; ``config`` where the run has chosen some of it.

        Returns:
            Whether the run was still this worker's.
        """
        values = {name: getattr(outcome, name) for name in _OUTCOME if name not in ("notes", "finished")}
        metrics, notes = json.dumps(outcome.metrics), json.dumps(list(outcome.notes))
        return self._close(owner, run, {**values, **about, "metrics": metrics, "notes": notes, "status": "done"})

    def fail(self, owner: str, run: str, error: str, about: Mapping[str, str | None]) -> bool:
        """Writes down that a run has failed, and why, in one line; see :meth:`finish`."""
        return self._close(owner, run, {**about, "status": "failed", "error": error})

    def _close(self, owner: str, run: str, values: Mapping[str, Any]) -> bool:
        values = {**values, "finished": _now()}
        sets = ", ".join(f'"{name}" = :{name}' for name in values)
        with self._connected() as connection:
            changed = connection.execute(
                f"UPDATE runs SET {sets} WHERE run = :_run AND owner = :_owner AND status = 'running'",
                {**values, "_run": run, "_owner": owner},
            )
            return changed.rowcount == 1

    def counts(self) -> dict[str, int]:
        """How many of the study's runs are done, failed, running and waiting."""
        with self._connected() as connection:
            rows = connection.execute("SELECT status, COUNT(*) AS n FROM runs WHERE wanted GROUP BY status").fetchall()
        return {"done": 0, "failed": 0, "running": 0, "waiting": 0, **{row["status"]: row["n"] for row in rows}}

    def commits(self) -> dict[str, int]:
        """How many of the study's runs that are done each commit has made, as far as commits are known."""
        with self._connected() as connection:
            rows = connection.execute(
                'SELECT "commit" AS name, COUNT(*) AS n FROM runs '
                "WHERE wanted AND status = 'done' AND \"commit\" IS NOT NULL GROUP BY name ORDER BY MIN(place)"
            ).fetchall()
        return {row["name"]: row["n"] for row in rows}

    def rows(self) -> list[dict[str, Any]]:
        """All rows of the study's runs, in its order."""
        with self._connected() as connection:
            rows = connection.execute("SELECT * FROM runs WHERE wanted ORDER BY place").fetchall()
        return [dict(row) for row in rows]


def read_results(folder: str | Path) -> pd.DataFrame:
    """The results of a study, a row a run, in the study's order.

    Args:
        folder: of the study.

    Returns:
        Columns ``run`` (a hash of the configuration), ``status`` ("done", "failed", "running", "waiting"), ``error``,
        ``axis/...`` (short names), ``split_seed``, ``seed``, ``config`` (JSON: options by name), ``commit``,
        ``version``, ``machine``, ``folder`` (relative), ``val/...`` and ``test/...`` (in [0, 1]), ``best_epoch``,
        ``epochs``, ``seconds``, ``peak_memory_mib``, ``churn``, ``unevenness``, ``notes`` (JSON), ``finished``. Runs
        that the study had once and has no more are left out.

    Raises:
        DataError: there are none, or those of another version.

    Example:
        >>> read_results("studies/none")
        Traceback (most recent call last):
            ...
        mebns_pl.errors.DataError: studies/none: no results of a study (results.sqlite); `mebns sweep` makes them
    """
    folder = Path(folder)
    if not (folder / FILE).is_file():
        raise DataError(f"{folder}: no results of a study ({FILE}); `mebns sweep` makes them")
    rows = Store(folder).rows()
    axes = [json.loads(row["axes"]) for row in rows]
    metrics = [json.loads(row["metrics"] or "{}") for row in rows]
    table = pd.DataFrame({name: [row[name] for row in rows] for name in _COLUMNS})
    for axis in dict.fromkeys(axis for names in axes for axis in names):
        table[f"axis/{axis}"] = [names.get(axis) for names in axes]
    for name in _AFTER:
        table[name] = [row[name] for row in rows]
    for metric in dict.fromkeys(metric for found in metrics for metric in found):
        table[metric] = pd.Series([found.get(metric) for found in metrics], dtype=float)
    for name in _OUTCOME:
        kind = object if name in ("notes", "finished") else float
        table[name] = pd.Series([row[name] for row in rows], dtype=kind)
    return table


def _claimed(row: sqlite3.Row) -> Claimed:
    search = None if row["search"] is None else json.loads(row["search"])
    axes, arguments, config = (json.loads(row[name]) for name in ("axes", "arguments", "config"))
    return Claimed(row["run"], axes, arguments, bool(row["test"]), search, config)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
