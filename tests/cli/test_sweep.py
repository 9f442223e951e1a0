"""``mebns sweep``: workers that leak nothing between runs, kills, failures, search, clusters."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import optuna
import pandas as pd
import pytest
import yaml
from rich.console import Console

from mebns_pl.callbacks.preemption import EXIT_CODE
from mebns_pl.cli import sweep, worker
from mebns_pl.cli.main import MeBNSCLI, main
from mebns_pl.cli.sweep import in_words, remaining, seats, sweep_command
from mebns_pl.cli.worker import Worker
from mebns_pl.errors import DataError
from mebns_pl.files import locked
from mebns_pl.study import origin
from mebns_pl.study.plan import plan_runs, write_files
from mebns_pl.study.search import open_search
from mebns_pl.study.spec import read_study
from mebns_pl.study.store import MOST_DEATHS, Outcome, Store, read_results, this_process
from mebns_pl.systems.checkpoint_io import AtomicCheckpointIO, CheckpointWriteError

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = """
trainer: {max_epochs: 2, accelerator: cpu, check_val_every_n_epoch: 1}
model:
  class_path: mebns_pl.MeBNS
  init_args:
    predictor:
      class_path: mebns_pl.EncoderDecoder
      init_args: {encoder: {class_path: mebns_pl.GCN, init_args: {hidden_channels: 8}}}
    sampler: {num_candidates: 2}
    collector: {num_passes: 2}
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
    schedule: {warmup: 1}
    teaching: {class_path: mebns_pl.OwnLearning, init_args: {epochs: null}}
data:
  batch_size: 1500
  eval_negatives: {class_path: mebns_pl.RandomNegatives, init_args: {num_negatives: 5}}
migration: {probe_size: 100}
figures: {max_snapshots: 0}
card: {max_pairs: 0, resamples: 10}
"""
STUDY = "{name: small, base: small, axes: {system: [Plain, MeBNS]}, seeds: 1%s}"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    Path("small.yaml").write_text(SMALL)


def study(more: str = "", text: str = STUDY) -> str:
    Path("study.yaml").write_text(text % more)
    return "study.yaml"


def prepared(path: str, out: str = "out") -> Store:
    """A study's folder, as the command makes it, without workers."""
    given = read_study(path)
    runs = plan_runs(given)
    store = Store(Path(out).absolute())
    write_files(runs, given, store.folder)
    store.add(runs)
    return store


def metrics_of(table: pd.DataFrame) -> pd.DataFrame:
    """What must not depend on how a run came about."""
    kept = [name for name in table if name.startswith(("val/", "test/", "axis/"))]
    return table[["run", "status", *kept, "best_epoch", "epochs", "churn", "unevenness"]]


def test_a_worker_runs_all_and_leaves_nothing_behind(capfd: pytest.CaptureFixture[str]) -> None:
    store = prepared(study())
    threads, figures = threading.active_count(), plt.get_fignums()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    assert Worker(store.folder).work() == 0
    table = read_results(store.folder)
    assert list(table.status) == ["done", "done"]
    assert table["test/mrr"].between(0, 1).all()
    assert list(table.epochs) == [2, 2]
    assert table.folder.map(lambda folder: (store.folder / folder / "metrics.json").is_file()).all()
    # Nothing stays of the runs but what they have written
    assert threading.active_count() == threads
    assert plt.get_fignums() == figures
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert capfd.readouterr().out == ""
    # The second run, alone and with nothing before it, is the same to the last bit
    other = prepared(study(text="{name: small, base: small, axes: {system: [MeBNS]}, seeds: 1%s}"), "other")
    assert Worker(other.folder).work() == 0
    alone = metrics_of(read_results(other.folder))
    both = metrics_of(table)
    pd.testing.assert_frame_equal(both[both.run == alone.run[0]].reset_index(drop=True), alone, check_exact=True)


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{name: small, base: small, options: {trainer.max_epochs: 3}, axes: {system: [MeBNS]}%s}"
    whole, store = prepared(study(text=text), "whole"), prepared(study(text=text))
    assert Worker(whole.folder).work() == 0
    (name,) = store.known()

    class Killed(BaseException):
        """In place of SIGKILL."""

    def stop(self: worker.Callback, trainer: worker.Trainer, *_: object) -> None:
        if trainer.current_epoch == 1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("mebns_pl.callbacks.hparams.HyperParameters.on_validation_end", stop)
        with pytest.raises(Killed):
            Worker(store.folder).work()
    checkpoints = store.folder / "runs" / name / "version_0" / "checkpoints"
    assert (checkpoints / "last.ckpt").exists()
    assert read_results(store.folder).status[0] == "running"
    store.release(Worker(store.folder).owner)
    given: list[list[str]] = []

    def spied(arguments: list[str], kind: type) -> MeBNSCLI:
        given.append(arguments)
        return main(arguments, kind)

    monkeypatch.setattr(worker, "main", spied)
    assert Worker(store.folder).work() == 0
    assert [("--resume" in arguments, arguments[0]) for arguments in given] == [(True, "fit"), (False, "test")]
    ours, theirs = metrics_of(read_results(store.folder)), metrics_of(read_results(whole.folder))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def test_a_run_whose_checkpoint_is_damaged_begins_anew() -> None:
    store = prepared(study(text="{name: small, base: small, axes: {system: [Plain]}%s}"))
    (name,) = store.known()
    checkpoints = store.folder / "runs" / name / "version_0" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last.ckpt").write_text("torn")
    assert Worker(store.folder).work() == 0
    assert read_results(store.folder).status[0] == "done"


def test_failures_are_rows_and_the_others_go_on() -> None:
    variants = "{good: {model.updates.accumulate: 1}, bad: {model.updates.accumulate: 0}, gone: {data.graph: no.csv}}"
    store = prepared(study(text=f"{{base: small, axes: {{variant: {variants}}}%s}}"))
    assert Worker(store.folder).work() == 0
    table = read_results(store.folder).set_index("axis/variant")
    assert list(table.status) == ["done", "failed", "failed"]
    assert table.error["bad"] == "updates.accumulate: expected 1 or more batches, got 0"
    assert "no.csv" in table.error["gone"]
    assert "\n" not in table.error["gone"]
    assert "DataError" in (store.folder / "runs" / table.run["bad"] / "output.txt").read_text()


def test_a_preempted_worker_gives_its_run_back(monkeypatch: pytest.MonkeyPatch) -> None:
    store = prepared(study(text="{name: small, base: small, axes: {system: [Plain]}%s}"))
    once = threading.Event()

    def signalled(self: worker.Callback, *_: object) -> None:
        if not once.is_set():
            once.set()
            os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patch:
        patch.setattr("mebns_pl.callbacks.hparams.HyperParameters.on_validation_end", signalled)
        assert Worker(store.folder).work() == EXIT_CODE
    assert list(read_results(store.folder).status) == ["waiting"]
    assert Worker(store.folder).work() == 0
    assert list(read_results(store.folder).status) == ["done"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(
    ("owner", "hook"),
    [
        ("callbacks.hparams.HyperParameters", "on_fit_start"),
        ("data.datamodule.LinkDataModule", "train_dataloader"),  # Lightning has its own handler by then
        ("callbacks.hparams.HyperParameters", "teardown"),
    ],
)
def test_a_worker_that_is_told_while_it_prepares_gives_its_run_back(
    number: signal.Signals, owner: str, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = prepared(study(text="{name: small, base: small, axes: {system: [Plain]}%s}"))
    (name,) = store.known()
    asked: list[bool] = []
    module, _, kind = f"mebns_pl.{owner}".rpartition(".")
    before = getattr(getattr(importlib.import_module(module), kind), hook)

    def signalled(self: object, *given: object, **options: object) -> object:
        os.kill(os.getpid(), number)
        return before(self, *given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(f"mebns_pl.{owner}.{hook}", signalled)
        patch.setattr(worker, "requeue", lambda: asked.append(list(read_results(store.folder).status) == ["waiting"]))
        assert Worker(store.folder).work() == EXIT_CODE
    assert asked == [True]  # once, when the run can be had
    place = store.folder / "runs" / name / "version_0"
    assert (place / "checkpoints" / "last.ckpt").exists() == (hook == "teardown")  # no step was done
    assert Worker(store.folder).work() == 0
    assert list(read_results(store.folder).status) == ["done"]


def test_a_worker_that_cannot_write_ends_and_its_run_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "last.ckpt")

    store = prepared(study())
    monkeypatch.setattr(worker, "main", full)
    assert Worker(store.folder).work() == worker.STOPPED == sweep.STOPPED
    assert "No space left on device" in capsys.readouterr().err
    assert list(read_results(store.folder).status) == ["waiting", "waiting"]


def test_a_disk_that_fills_in_a_resumed_run_leaves_its_last_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, checkpoint: object, path: object, **_: object) -> None:
        raise CheckpointWriteError(f"checkpoint {path}: cannot be written") from OSError(28, "No space left on device")

    store = prepared(study(text="{name: small, base: small, axes: {system: [Plain]}, seeds: 2%s}"))
    claimed = store.unchecked()[0]
    runner, place = Worker(store.folder), store.folder / "runs" / claimed.run
    main([*runner.fit_arguments(claimed, place), "--trainer.max_epochs=1"])
    last = place / "version_0" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
    assert runner.work() == worker.STOPPED
    assert last.read_bytes() == before
    assert list(read_results(store.folder).status) == ["waiting", "waiting"]


def test_a_run_whose_folder_is_in_use_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker, silent for long, may be at work yet."""
    monkeypatch.setattr(worker, "BEAT", 0.05)
    store = prepared(study(text="{name: small, base: small, axes: {system: [Plain]}, seeds: 1%s}"))
    place = store.folder / "runs" / store.unchecked()[0].run / "version_0"
    monkeypatch.setattr(worker, "main", lambda *_, **__: pytest.fail("it began in a folder that is in use"))
    with locked(place):
        (place / "kept").touch()
        assert Worker(store.folder).work() == 0
    assert (place / "kept").exists()
    (row,) = store.rows()
    assert (row["status"], row["deaths"]) == ("failed", MOST_DEATHS)
    monkeypatch.undo()
    store.retry()
    assert Worker(store.folder).work() == 0
    assert list(read_results(store.folder).status) == ["done"]


def test_options_are_looked_at_before_anything_runs() -> None:
    store = prepared(study(text="{base: small, axes: {model.optimizer.lr: [0.1, fast], system: [Plain]}%s}"))
    runner, scratch = Worker(store.folder), store.folder / "scratch.txt"
    told = [
        worker.parse(runner.fit_arguments(claimed, store.folder)[1:], scratch)
        for claimed in sorted(store.unchecked(), key=lambda claimed: claimed.axes["model.optimizer.lr"])
    ]
    assert told[0] is None
    assert told[1] is not None
    assert "fast" in told[1]
    assert not list(store.folder.glob("runs"))
    unknown = prepared(study(text="{base: small, options: {model.no_such: 1}%s}"), "unknown")
    told = [worker.parse(runner.fit_arguments(claimed, store.folder)[1:], scratch) for claimed in unknown.unchecked()]
    assert told[0] is not None
    assert "no_such" in told[0]


def test_a_search_has_the_same_budget_for_each_and_leaves_a_config() -> None:
    ranges = "{model.optimizer.lr: {low: 0.001, high: 0.1, log: true}, model.sampler.num_candidates: [2, 3]}"
    axes = "{system: [Plain], model.updates.accumulate: [1, 2]}"
    path = study(text=f"{{base: small, axes: {axes}, search: {{trials: 2, ranges: {ranges}}}%s}}")
    store = prepared(path)
    assert Worker(store.folder).work() == 0
    rows = store.rows()
    assert [row["status"] for row in rows] == ["done"] * 4
    tried = pd.DataFrame([json.loads(row["config"]) for row in rows])
    assert tried["model.optimizer.lr"].between(0.001, 0.1).all()
    assert tried["model.optimizer.lr"].nunique() == 4
    assert set(tried["model.sampler.num_candidates"]) <= {2, 3}
    table = read_results(store.folder)
    assert not [name for name in table if name.startswith("test/")]  # on validation only
    best = sweep.write_best(store)
    assert set(best) == {"Plain_1", "Plain_2"}
    top = table[table["axis/model.updates.accumulate"] == "2"].sort_values("val/mrr").iloc[-1]
    found = yaml.safe_load(best["Plain_2"].read_text())
    lr = found["model"]["init_args"]["optimizer"]["init_args"]["lr"]
    assert math.isclose(lr, json.loads(top.config)["model.optimizer.lr"])
    # Runs of that file have places of their own
    assert not {"logger", "default_root_dir", "enable_progress_bar"} & set(found["trainer"])
    (kept,) = (store.folder / row.folder / "config.yaml" for row in [top])
    before = kept.read_bytes()
    run = main(["fit", "-c", str(best["Plain_2"]), "--seed_everything=7", "--trainer.enable_progress_bar=false"])
    assert Path(run.trainer.log_dir) == Path("logs/mebns/version_0")
    assert kept.read_bytes() == before


def test_a_search_that_was_edited_begins_anew() -> None:
    """Optuna would refuse other choices, and learn from trials of another configuration."""
    search = "search: {trials: 2, ranges: {model.sampler.num_candidates: %s}}"
    text = f"{{base: small, options: {{data.batch_size: %s}}, axes: {{system: [Plain]}}, {search}%%s}}"
    for size, choices in ((32, "[2, 3]"), (32, "[2, 4]"), (64, "[2, 4]")):
        store = prepared(study(text=text % (size, choices)))
        assert Worker(store.folder).work() == 0
        assert {row["status"] for row in store.rows()} == {"done"}
    names = optuna.get_all_study_names(f"sqlite:///{store.folder / 'search.sqlite'}")
    assert len(names) == 3
    assert all(name.startswith("system=Plain ") for name in names)


def test_many_workers_open_a_new_search_together(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda seed: open_search(tmp_path, "one", seed), range(16)))
    assert {one.study_name for one in found} == {found[0].study_name}


def test_combinations_whose_values_join_to_one_name_have_a_best_each() -> None:
    values = "{x_y: {model.optimizer.lr: 0.1}, x: {model.optimizer.lr: 0.2}}, b: {z: {data.batch_size: 1}, y_z: {}}"
    ranges = "{model.sampler.num_candidates: [2, 3]}"
    text = f"{{base: small, axes: {{a: {values}}}, search: {{trials: 1, ranges: {ranges}}}%s}}"
    store = prepared(study(text=text))
    while (claimed := store.claim("one")) is not None:
        folder = store.folder / "runs" / claimed.run
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(json.dumps(claimed.axes))
        about = {"commit": "c", "version": "v", "machine": "m", "folder": f"runs/{claimed.run}"}
        store.finish("one", claimed.run, Outcome({"val/mrr": 0.5}), about)
    best = sweep.write_best(store)
    assert set(best) == {"a=x_y,b=z", "x_y_y_z", "x_z", "a=x,b=y_z"}
    assert yaml.safe_load(best["a=x_y,b=z"].read_text()) == {"a": "x_y", "b": "z"}
    assert yaml.safe_load(best["a=x,b=y_z"].read_text()) == {"a": "x", "b": "y_z"}


def test_a_path_that_is_a_value_names_a_file_within_the_folder() -> None:
    assert set(sweep.combination_names(['{"data.graph": "/a/b.csv", "system": "Plain"}']).values()) == {
        "%2Fa%2Fb.csv_Plain"
    }


@pytest.mark.parametrize("commit", ["a" * 40, "b" * 40, None])
def test_runs_by_other_code_are_told(commit: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("study.yaml").write_text(STUDY % "")
    read, store, said = read_study("study.yaml"), Store(Path("out").absolute()), io.StringIO()
    monkeypatch.setattr(sweep, "commit_of", lambda package: commit)
    for _ in range(2):
        sweep.prepare(read, plan_runs(read), store, False, Console(file=said, width=160))
        if claimed := store.claim("one"):
            outcome = Outcome({}, 3, 4, 1.5, 100.0, 0.25, None, [])
            about = {"commit": "a" * 40, "version": "v", "machine": "m", "folder": "runs/x"}
            store.finish("one", claimed.run, outcome, about)
    told = "done by other code, and not run anew: 1 by commit aaaaaaa" in said.getvalue()
    assert told == (commit == "b" * 40)


def test_a_commit_is_that_of_the_package_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / ".venv" / "mebns_pl"
    package.mkdir(parents=True)
    assert origin.commit_of(package) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "mine"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert origin.commit_of(package) is None  # of the project that the environment lies in
    (tmp_path / "mebns_pl").mkdir()
    assert origin.commit_of(tmp_path / "mebns_pl") == head
    monkeypatch.setenv("PATH", "")
    assert origin.commit_of(tmp_path / "mebns_pl") is None


def test_dry_run_lists_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main(["sweep", study(), "--dry-run"])
    out = capsys.readouterr().out
    assert out.count("would run") == 3
    assert "2 of 2 runs would run in" in out
    assert out.endswith("; their options are looked at when the sweep starts\n")
    assert not Path("studies").exists()


def test_a_cluster_gets_a_job_array(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sbatch = Path("bin/sbatch").absolute()
    sbatch.parent.mkdir()
    sbatch.write_text('#!/bin/sh\ncp "$1" submitted\necho Submitted batch job 7\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(sweep.Leader, "check", lambda self, study: None)
    options = ["--slurm", "--workers=3", "--sbatch=--partition=gpu --gres=gpu:1", "--out=out"]
    sweep_command([study(), *options, "--dry-run"])
    shown = capsys.readouterr().out
    assert not Path("submitted").exists()
    sweep_command([study(), *options])
    assert "Submitted batch job 7" in capsys.readouterr().err
    script = Path("submitted").read_text()
    for line in ("--array=0-2", "--requeue", "--signal=B:USR1@120", "--partition=gpu", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in script
        assert f"#SBATCH {line}\n" in shown
    assert f"exec {sys.executable} -m mebns_pl.cli.worker {Path('out').absolute()}" in script
    assert "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}\n" in script  # options may ask for more
    sbatch.write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
    with pytest.raises(DataError, match="sbatch refuses .*sweep.sbatch: invalid partition"):
        sweep_command([study(), *options])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DataError, match="there is no sbatch on this host"):
        sweep_command([study(), *options])
    with pytest.raises(DataError, match="--sbatch: got 'gpu'"):
        sweep_command([study(), "--slurm", "--sbatch=gpu", "--out=out"])


def test_seats_share_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    monkeypatch.setattr(sweep.torch.cuda, "device_count", lambda: 0)
    assert [seat["cores"] for seat in seats(2)] == [[0, 1], [2, 3]]
    assert [seat["cores"] for seat in seats(None)] == [[0], [1], [2], [3], [4]]
    assert len(seats(7)) == 7
    monkeypatch.setattr(sweep.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [(seat["gpu"], seat["cores"]) for seat in seats(None)] == [("5", [0, 1]), ("7", [2, 3])]


@dataclass
class Workers:
    """In place of workers: processes that take an order and end, with status 3 while runs wait.

    Args:
        store: of the study.
        claim: whether each takes a run.
    """

    store: Store
    claim: bool
    all: list[subprocess.Popen[str]] = field(default_factory=list)

    def lead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Has a leader lead them to the end."""
        start = sweep.Leader._start

        def counted(leader: sweep.Leader, index: int) -> None:
            assert len(self.all) < 10
            status = 3 if self.store.counts()["waiting"] else 0
            monkeypatch.setattr(sweep, "WORKER", ("sh", "-c", f"read order; echo no memory >&2; exit {status}"))
            start(leader, index)
            process = leader._processes[index]
            self.all.append(process)
            if self.claim:
                self.store.claim(this_process(process.pid))

        monkeypatch.setattr(sweep.Leader, "_start", counted)
        monkeypatch.setattr(sweep, "LOOK", 0.01)
        self.store.mark_checked()
        sweep.Leader(self.store, 1, Console(file=io.StringIO())).run(read_study("study.yaml"))


def test_workers_that_end_before_they_run_anything_end_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    store = prepared(study())
    workers = Workers(store, claim=False)

    def elsewhere(*_: object) -> None:  # a run is done before the first worker ends
        if store.counts()["done"] == 0 and (claimed := store.claim("elsewhere")):
            about = {"commit": "c", "version": "v", "machine": "m", "folder": "runs/x"}
            store.finish("elsewhere", claimed.run, Outcome({"val/mrr": 0.5}), about)

    monkeypatch.setattr(sweep, "remaining", elsewhere)
    with pytest.raises(DataError, match="workers end before they have run anything: no memory"):
        workers.lead(monkeypatch)
    assert sweep.FAILED_STARTS <= len(workers.all) <= sweep.FAILED_STARTS + 1


def test_workers_that_die_of_their_runs_are_replaced_and_leave_no_pipe_open(monkeypatch: pytest.MonkeyPatch) -> None:
    store = prepared(study())
    workers = Workers(store, claim=True)
    workers.lead(monkeypatch)
    assert store.counts() == {"done": 0, "failed": 2, "running": 0, "waiting": 0}
    assert len(workers.all) == 2 * MOST_DEATHS + 1
    for process in workers.all:
        assert all(pipe is not None and pipe.closed for pipe in (process.stdin, process.stdout, process.stderr))


def test_how_long_it_takes_still() -> None:
    before = {"done": 5, "failed": 1, "running": 0, "waiting": 4}
    assert remaining(before, {"done": 6, "failed": 2, "running": 1, "waiting": 1}, 10.0) == 10.0
    assert remaining(before, before, 10.0) is None
    assert in_words(59.6) == "about 60 s left"
    assert in_words(3700) == "about 1 h 2 min left"


# --- the command as a process ---


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mebns_pl", "sweep", "study.yaml", "--out=out", *arguments]


@pytest.fixture
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
@pytest.mark.usefixtures("_environment")
def test_a_killed_sweep_goes_on_and_a_finished_one_does_nothing() -> None:
    study()
    first = subprocess.Popen(command("--workers=2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(Path("out").glob("runs/*/version_0/checkpoints/last.ckpt")):
        time.sleep(0.05)
    first.kill()
    first.wait()
    done = subprocess.run(command("--workers=2"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 runs are done, 0 failed" in done.stderr
    finished = list(read_results("out").finished)
    again = subprocess.run(command(), capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert list(read_results("out").finished) == finished
    # Each is what its command gives in a process of its own
    store = Store(Path("out").absolute())
    for row in store.rows():
        arguments = Worker(store.folder).fit_arguments(_claimed(row), Path("alone", row["run"]).absolute())
        for stage in (
            arguments,
            ["test", f"-c=alone/{row['run']}/version_0/config.yaml",
             f"--ckpt_path=alone/{row['run']}/version_0/checkpoints/best.ckpt"],
        ):  # fmt: skip
            subprocess.run([sys.executable, "-m", "mebns_pl", *stage], capture_output=True, check=True)
        ours, theirs = (
            json.loads((place / "version_0" / "metrics.json").read_text())
            for place in (store.folder / "runs" / row["run"], Path("alone", row["run"]))
        )
        assert ours["test"]["metrics"] == theirs["test"]["metrics"]
        assert ours["fit"]["val"] == theirs["fit"]["val"]
        assert ours["fit"]["churn"] == theirs["fit"]["churn"]


def _claimed(row: dict[str, str]) -> worker.Claimed:
    return worker.Claimed(row["run"], {}, json.loads(row["arguments"]), True, None, {})


@pytest.mark.slow
@pytest.mark.usefixtures("_environment")
def test_dying_workers_and_wrong_options_are_told_in_one_line() -> None:
    study(text="{base: small, axes: {model.optimizer.lr: [0.1, fast]}%s}")
    refused = subprocess.run(command("--workers=1"), capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "model.optimizer.lr=fast: model.optimizer" in refused.stderr
    assert not list(Path("out").glob("runs"))
    study(text="{base: small, axes: {data.graph: [air_routes, no.csv]}%s}")
    failed = subprocess.run(command("--workers=1"), capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "mebns: error: 1 of 2 runs failed; the first, r" in failed.stderr
    assert list(read_results("out").status) == ["done", "failed"]
    with subprocess.Popen(command("--workers=1", "--retry"), stderr=subprocess.PIPE, text=True) as sweeping:
        assert sweeping.stderr is not None
        children = Path(f"/proc/{sweeping.pid}/task/{sweeping.pid}/children")
        while not children.read_text().split():
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        told = sweeping.stderr.read()
    assert sweeping.returncode == 1
    assert "a worker has ended" in told


def test_output_goes_into_a_file_and_comes_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with worker.output_into(tmp_path / "said.txt"):
        sys.stdout.write("one\n")
        os.write(1, b"two\n")
        sys.stderr.write("mebns: error: three\n")
    sys.stdout.write("four\n")
    assert sorted((tmp_path / "said.txt").read_text().split()) == ["error:", "mebns:", "one", "three", "two"]
    assert "four" in capfd.readouterr().out
    assert worker.refusal(tmp_path / "said.txt") == "three"


def test_progress_without_a_terminal_is_a_line_a_run() -> None:
    told = io.StringIO()
    with sweep.shown(sweep.Console(file=told)) as show:
        for done in (0, 0, 1, 1, 2):
            show({"done": done, "failed": 0, "running": 0, "waiting": 2 - done}, 60.0 if done else None)
    assert told.getvalue().splitlines() == [f"{done} of 2 runs, 0 failed  about 1 min left" for done in (1, 2)]


def test_a_worker_stays_on_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    store, pinned = prepared(study()), []
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: pinned.append(cores), raising=False)
    monkeypatch.setattr(Worker, "work", lambda self: 0)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        assert worker.start([str(store.folder), "--cores=0"]) == 0
        assert worker.start([str(store.folder), "--cores=3,5"]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert pinned == [[0], [3, 5]]


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(self: sweep.Leader, study: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep.Leader, "run", interrupted)
    with pytest.raises(SystemExit, match="130"):
        sweep_command([study(), "--out=out"])
    assert "interrupted, 0 runs are done; the same command goes on" in capsys.readouterr().err


STUDIES = sorted((Path(__file__).resolve().parents[2] / "configs" / "study").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_each_configuration_of_the_studies_that_are_here_is_accepted(path: Path) -> None:
    store = prepared(str(path))
    sweep.Leader(store, 1, Console(file=io.StringIO())).check(read_study(path))
    assert store.unchecked() == []
