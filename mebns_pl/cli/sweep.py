"""``mebns sweep``: runs a study with many workers, here or on a cluster, and tells how far it is."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mebns_pl.callbacks.preemption import EXIT_CODE
from mebns_pl.checks import at_least
from mebns_pl.cli.messages import OneLineParser
from mebns_pl.config_files import find_config_file
from mebns_pl.errors import DataError
from mebns_pl.files import write_atomically
from mebns_pl.study.origin import PACKAGE, commit_of
from mebns_pl.study.plan import PlannedRun, as_arguments, plan_runs, write_files
from mebns_pl.study.slurm import sbatch_script
from mebns_pl.study.spec import Study, read_study
from mebns_pl.study.store import Claimed, Store, this_process
from mebns_pl.terminal import text_table

STOPPED = 74
"""A worker's exit status when it cannot write."""
INTERRUPTED = 130
"""The exit status after an interruption from the keyboard, as of a shell's commands."""
WORKER = (sys.executable, "-m", "mebns_pl.cli.worker")
LOOK = 0.25
"""Seconds between two looks at the workers."""
FAILED_STARTS = 3
"""So many workers may end, one after the other, without a run in hand and without any having ended meanwhile."""


def sweep_command(arguments: Sequence[str]) -> None:
    """The command.

    Raises:
        DataError: the study, or one of its configurations, cannot be run; runs have failed; workers cannot work.
    """
    parser = OneLineParser(
        prog="mebns sweep",
        description="Runs a study: its configurations over its seeds, spread over workers. Started again, it goes on.",
        allow_abbrev=False,
    )
    parser.add_argument("study", help="study file, such as configs/study/demo.yaml")
    parser.add_argument("--out", type=Path, help="folder of the study's results (default: studies/NAME)")
    parser.add_argument("--workers", type=int, help="processes (default: one a GPU, else one a core); on SLURM: jobs")
    parser.add_argument("--dry-run", action="store_true", help="list what would run, and run nothing")
    parser.add_argument("--retry", action="store_true", help="run failed runs again")
    parser.add_argument("--slurm", action="store_true", help="send the workers out as a job array")
    parser.add_argument("--sbatch", default="", help="options for sbatch, such as '--partition=gpu --gres=gpu:1'")
    given = parser.parse_args(list(arguments))
    at_least(1, or_null=True, workers=given.workers)
    study = read_study(find_config_file(given.study) or given.study)
    runs = plan_runs(study)
    store = Store((given.out or Path("studies", study.name)).absolute())
    workers = given.workers or (1 if given.slurm else len(seats(None)))
    script = sbatch_script(study.name, store.folder, workers, given.sbatch) if given.slurm else None
    if given.dry_run:
        show_plan(study, runs, store, given.retry)
        if script:
            Console().print(script, soft_wrap=True, highlight=False, markup=False)
        return
    console = Console(stderr=True)
    prepare(study, runs, store, given.retry, console)
    left = store.counts()["waiting"] + store.counts()["running"]
    if left and script:
        Leader(store, 1, console).check(study)
        submit(script, store.folder, console)
        return
    if left:
        try:
            Leader(store, min(workers, left), console).run(study)
        except KeyboardInterrupt:
            console.print(f"interrupted, {store.counts()['done']} runs are done; the same command goes on")
            sys.exit(INTERRUPTED)
    conclude(study, store, console)


def show_plan(study: Study, runs: Sequence[PlannedRun], store: Store, retry: bool) -> None:
    """Lists the runs and what would become of them; nothing is written."""
    known = store.known()
    rerun = ("waiting", "running", *(["failed"] if retry else []))
    rows, wanted = [], 0
    for run in runs:
        status = known.get(run.run, "waiting")
        would = status in rerun
        wanted += would
        seeds = (str(run.seed if run.split_seed is None else run.split_seed), str(run.seed))
        trial = [] if run.search is None else [str(run.search["trial"])]
        rows.append([run.run, *run.axes.values(), *seeds, *trial, "would run" if would else status])
    headings = ["run", *study.axes, "split seed", "seed", *(["trial"] if study.search else []), "status"]
    console = Console()
    console.width = max(console.width, 120)
    console.print(text_table(headings, [], rows))
    gone = len(set(known) - {run.run for run in runs})
    others = f"; {gone} of an earlier version of the study stay, and are not run" if gone else ""
    unread = "; their options are looked at when the sweep starts" if wanted else ""
    console.print(f"{wanted} of {len(runs)} runs would run in {store.folder}{others}{unread}", soft_wrap=True)


def prepare(study: Study, runs: Sequence[PlannedRun], store: Store, retry: bool, console: Console) -> None:
    """Writes the study down, and gives back what workers that are no more have taken."""
    store.known()  # refuses a file of another format before anything is written
    write_files(runs, study, store.folder)
    gone = store.add(runs)
    if gone:
        console.print(f"{gone} runs of an earlier version of the study stay in {store.path}, and are not run")
    own = commit_of(PACKAGE)  # and not the machine, too: to ask a GPU for its name takes memory of it
    others = {commit: count for commit, count in store.commits().items() if commit != own}
    if others and own:
        told = ", ".join(f"{count} by commit {commit[:7]}" for commit, count in others.items())
        console.print(f"done by other code, and not run anew: {told}; another --out has all runs by this code")
    store.release_dead()
    if retry and (again := store.retry()):
        console.print(f"{again} failed runs are run again")


def submit(script: str, folder: Path, console: Console) -> None:
    """Hands the script to sbatch.

    Raises:
        DataError: there is no sbatch, or it refuses.
    """
    path = folder / "sweep.sbatch"
    write_atomically(path, script)
    try:
        said = subprocess.run(["sbatch", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError as error:
        raise DataError(f"--slurm: there is no sbatch on this host; the script is {path}") from error
    except subprocess.CalledProcessError as error:
        told = " ".join(error.stderr.split())
        raise DataError(f"--slurm: sbatch refuses {path}: {told or f'status {error.returncode}'}") from error
    console.print(f"{said}; runs write into {folder}, and the same command without --slurm shows how far they are")


def conclude(study: Study, store: Store, console: Console) -> None:
    """Says what there is now.

    Raises:
        DataError: some runs have failed.
    """
    counts = store.counts()
    if study.search:
        for name, path in write_best(store).items():
            console.print(f"best of {name or 'all'}: {path}", soft_wrap=True, highlight=False)
    console.print(f"{counts['done']} runs are done, {counts['failed']} failed: {store.folder}", soft_wrap=True)
    if counts["failed"]:
        first = next(row for row in store.rows() if row["status"] == "failed")
        told = ", ".join(f"{axis}={name}" for axis, name in json.loads(first["axes"]).items())
        raise DataError(
            f"{counts['failed']} of {sum(counts.values())} runs failed; the first, {first['run']} ({told}, seed "
            f"{first['seed']}): {first['error']}; --retry runs them again"
        )
    if counts["waiting"] or counts["running"]:
        raise DataError(f"{counts['waiting'] + counts['running']} runs are left; the same command goes on")


def write_best(store: Store) -> dict[str, Path]:
    """Writes the configuration of each combination's best trial, by validation, into ``best/``."""
    best: dict[str, dict[str, Any]] = {}
    rows = store.rows()
    names = combination_names(row["axes"] for row in rows)
    for row in rows:
        score = json.loads(row["metrics"] or "{}").get("val/mrr")
        pruned = any(note["code"] == "pruned" for note in json.loads(row["notes"] or "[]"))
        if row["status"] != "done" or score is None or pruned:
            continue
        name = names[row["axes"]]
        if name not in best or score > best[name]["score"]:
            best[name] = {"score": score, "folder": row["folder"]}
    paths = {}
    for name, found in best.items():
        paths[name] = store.folder / "best" / f"{name or 'all'}.yaml"
        write_atomically(paths[name], _of_nobody(store.folder / found["folder"] / "config.yaml"))
    return paths


def _of_nobody(path: Path) -> str:
    """A run's configuration without its place: with it others would write there, too."""
    config = yaml.safe_load(path.read_text("utf-8"))
    config.pop("ckpt_path", None)
    for option in ("logger", "default_root_dir", "enable_progress_bar"):
        config.get("trainer", {}).pop(option, None)
    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def combination_names(combinations: Iterable[str]) -> dict[str, str]:
    """Names of files for combinations: their values, and axes, too, where others would have the same name.

    Args:
        combinations: JSON of values' short names by axis.

    Example:
        >>> list(combination_names(['{"graph": "a_b", "sampler": "c"}', '{"graph": "a", "sampler": "b_c"}']).values())
        ['graph=a_b,sampler=c', 'graph=a,sampler=b_c']
    """
    axes = {text: json.loads(text) for text in combinations}
    short = {text: "_".join(named.values()) for text, named in axes.items()}
    count = Counter(short.values())
    names = {
        text: name if count[name] == 1 else ",".join(f"{axis}={value}" for axis, value in axes[text].items())
        for text, name in short.items()
    }
    return {text: name.replace("/", "%2F") for text, name in names.items()}  # a path may be a value


def seats(workers: int | None) -> list[dict[str, Any]]:
    """Where workers sit: the cores of each, and its GPU; one a GPU, or one a core, by default.

    More workers than cores or GPUs share them.
    """
    try:
        cores = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = list(range(os.cpu_count() or 1))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(number) for number in range(torch.cuda.device_count())]
    if gpus and visible:
        gpus = visible.split(",")[: len(gpus)]
    workers = workers or len(gpus) or len(cores)
    share = max(1, len(cores) // workers)
    return [
        {
            "cores": [cores[(index * share + place) % len(cores)] for place in range(share)],
            "gpu": gpus[index % len(gpus)] if gpus else None,
        }
        for index in range(workers)
    ]


@dataclass
class Leader:
    """Starts workers, replaces those that die, and shows how far they are.

    Args:
        store: of the study.
        workers: how many, 1 or more.
        console: where progress is shown.
    """

    store: Store
    workers: int
    console: Console
    _processes: dict[int, subprocess.Popen[str]] = field(default_factory=dict)

    def check(self, study: Study) -> None:
        """Has the workers look at all configurations that nobody has looked at.

        Raises:
            DataError: one of them cannot be used.
        """
        unchecked = self.store.unchecked()
        with self._working():
            self._check(study, unchecked)

    def run(self, study: Study) -> None:
        """Runs all that waits.

        Raises:
            DataError: a configuration cannot be used, or workers cannot work.
        """
        unchecked = self.store.unchecked()
        with self._working():
            self._check(study, unchecked)
            for index in self._processes:
                self._order(index, {"work": True})
            self._watch()

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        try:
            for index in range(self.workers):
                self._start(index)
            yield
        finally:
            for process in self._processes.values():
                process.kill()  # whatever it has in hand is taken up again
            for process in self._processes.values():
                process.wait()
                close_pipes(process)
                with contextlib.suppress(DataError):  # the disk may be full: the next start gives them back
                    self.store.release(this_process(process.pid))

    def _start(self, index: int) -> None:
        seat = seats(self.workers)[index]
        cores = seat["cores"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores))}
        if seat["gpu"] is not None:
            environment["CUDA_VISIBLE_DEVICES"] = seat["gpu"]

        self._processes[index] = subprocess.Popen(
            [*WORKER, "--led", f"--cores={','.join(map(str, cores))}", str(self.store.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # an interruption from the keyboard is the sweep's alone
        )

    def _order(self, index: int, order: dict[str, Any]) -> None:
        orders = self._processes[index].stdin
        assert orders is not None
        try:
            orders.write(json.dumps(order) + "\n")
            orders.flush()
        except BrokenPipeError as error:
            raise DataError(f"a worker has ended before it could work: {self._last_words(index)}") from error

    def _last_words(self, index: int) -> str:
        said = self._processes[index].stderr
        assert said is not None
        lines = [line.strip() for line in said.read().splitlines() if line.strip()]
        return lines[-1].removeprefix("mebns: error: ") if lines else "it said nothing"

    def _check(self, study: Study, unchecked: Sequence[Claimed]) -> None:
        if not unchecked:
            return
        tries: list[str] = []
        if study.search:  # ranges are options, too
            ranges = study.search.ranges
            ends = {name: given[0] if isinstance(given, list) else given["low"] for name, given in ranges.items()}
            tries = as_arguments(ends)
        shares = {index: unchecked[index :: self.workers] for index in self._processes}
        for index, share in shares.items():
            self._order(index, {"parse": [[*claimed.arguments, *tries] for claimed in share]})
        for index, share in shares.items():
            answers = self._processes[index].stdout
            assert answers is not None
            line = answers.readline()
            if not line:
                raise DataError(f"a worker has ended before it could work: {self._last_words(index)}")
            for claimed, refused in zip(share, json.loads(line), strict=True):
                if refused:
                    told = ", ".join(f"{axis}={name}" for axis, name in claimed.axes.items())
                    raise DataError(f"study {study.name}, {told or 'base'}: {refused}; nothing was run")
        self.store.mark_checked()

    def _watch(self) -> None:
        """Until no worker works any more."""
        begin, before = time.monotonic(), self.store.counts()
        starts, ended = 0, before["done"] + before["failed"]
        with shown(self.console) as show:
            while self._processes:
                time.sleep(LOOK)
                counts = self.store.counts()
                show(counts, remaining(before, counts, time.monotonic() - begin))
                if counts["done"] + counts["failed"] != ended:
                    starts, ended = 0, counts["done"] + counts["failed"]
                for index, process in list(self._processes.items()):
                    status = process.poll()
                    if status is None:
                        continue
                    held = self.store.release(this_process(process.pid), dead=status not in (0, STOPPED))
                    words = self._last_words(index) if status else ""
                    close_pipes(process)
                    del self._processes[index]
                    if status == STOPPED:
                        raise DataError(f"a worker cannot go on: {words}; what was done stays")
                    if status:
                        starts = 0 if held or status == EXIT_CODE else starts + 1  # told to stop, it gives its run back
                        how = f"by signal {-status}" if status < 0 else f"with status {status}"
                        self.console.print(f"a worker has ended {how} ({words}); another takes its place")
                        if starts >= FAILED_STARTS:
                            raise DataError(f"workers end before they have run anything: {words}")
                    if status or self.store.counts()["waiting"]:
                        self._start(index)
                        self._order(index, {"work": True})
            show(self.store.counts(), None)


def close_pipes(process: subprocess.Popen[str]) -> None:
    """Closes what a process that has ended was spoken with by."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # an order that it has not taken
                pipe.close()


def remaining(before: dict[str, int], now: dict[str, int], seconds: float) -> float | None:
    """Seconds that are left at the pace so far; None where there is none yet.

    Example:
        >>> remaining({"done": 1, "failed": 0}, {"done": 4, "failed": 0, "running": 1, "waiting": 5}, 30.0)
        60.0
    """
    ended = sum(now[status] - before[status] for status in ("done", "failed"))
    left = now["running"] + now["waiting"]
    return seconds / ended * left if ended > 0 else None


def in_words(seconds: float | None) -> str:
    """A time that is left.

    Example:
        >>> in_words(5400.0), in_words(42.0), in_words(None)
        ('about 1 h 30 min left', 'about 42 s left', '')
    """
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"about {seconds:.0f} s left"
    return f"about {minutes // 60} h {minutes % 60} min left" if minutes >= 60 else f"about {minutes} min left"


@contextlib.contextmanager
def shown(console: Console) -> Iterator[Any]:
    """Shows counts: a bar on a terminal, else a line whenever a run has ended."""
    if console.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=None)

            def show(counts: dict[str, int], left: float | None) -> None:
                told = f"{counts['failed']} failed, {counts['running']} running  {in_words(left)}"
                ended = counts["done"] + counts["failed"]
                progress.update(task, completed=ended, total=sum(counts.values()), description=told)

            yield show
        return
    seen = [0]

    def say(counts: dict[str, int], left: float | None) -> None:
        ended = counts["done"] + counts["failed"]
        if ended != seen[0]:
            told = f"{ended} of {sum(counts.values())} runs, {counts['failed']} failed  {in_words(left)}"
            console.print(told.strip(), highlight=False)
        seen[0] = ended

    yield say
