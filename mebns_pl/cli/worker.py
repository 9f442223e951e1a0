"""A worker of a sweep: one process that runs many of a study's runs, one after the other.

``python -m mebns_pl.cli.worker FOLDER`` works until no run is left, as in a job of a cluster. With ``--led`` a sweep
leads it: it takes orders from standard input, a line of JSON each, and ends with the sweep.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mebns_pl.callbacks.preemption import EXIT_CODE, requeue
from mebns_pl.cli.main import MeBNSCLI, main
from mebns_pl.cli.messages import OneLineParser, user_message
from mebns_pl.errors import DataError
from mebns_pl.files import InUseError, locked
from mebns_pl.study.origin import about_this_machine
from mebns_pl.study.outcome import read_outcome
from mebns_pl.study.plan import as_arguments
from mebns_pl.study.store import Claimed, Outcome, Store, this_process
from mebns_pl.systems.checkpoint_io import CheckpointError, CheckpointWriteError

RUNS = "runs"
"""Folder of a study in which each run has its own."""
OUTPUT = "output.txt"
"""What a run has said, in its folder."""
STOPPED = 74
"""A worker's exit status when it cannot write: that is no fault of the run, and the next would not come further."""
BEAT = 10.0
"""Seconds between signs of life."""
LOOK = 0.25
"""Seconds between two looks whether a worker that waits is told to stop."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_PARSERS = ("parser", "_subcommand_method_arguments", "_subcommand_parsers")


class WarmCLI(MeBNSCLI):
    """The command line with parsers that are made once in a process: making them takes as long as a small run."""

    _made: ClassVar[dict[str, Any]] = {}

    def setup_parser(self, *args: Any) -> None:
        """Takes the parsers over from the run before."""
        if not WarmCLI._made:
            super().setup_parser(*args)
            WarmCLI._made.update({name: getattr(self, name) for name in _PARSERS if hasattr(self, name)})
        vars(self).update(WarmCLI._made)


class ParsingCLI(WarmCLI):
    """Looks at the options of a run, and does not run it."""

    def instantiate_classes(self) -> None:
        """Nothing."""

    def after_instantiate_classes(self) -> None:
        """Nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""


class Pruning(Callback):
    """Tells Optuna each validation's MRR, and stops a trial that is not worth its time.

    Args:
        trial: Optuna's.
    """

    def __init__(self, trial: Any) -> None:
        self.trial = trial

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports.

        Raises:
            optuna.TrialPruned: the trial is worse than the median of others at this epoch.
        """
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self.trial.report(float(trainer.callback_metrics["val/mrr"]), trainer.current_epoch)
        if self.trial.should_prune():
            from optuna import TrialPruned

            raise TrialPruned(f"after epoch {trainer.current_epoch}")


class Stopping(Callback):
    """Ends a run before its first step, where its worker was told to stop while it was prepared.

    From there on :class:`~mebns_pl.callbacks.preemption.Preemption` takes the signals.

    Args:
        worker: that runs it.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends it.

        Raises:
            SystemExit: the worker was told to stop.
        """
        self.worker.end_if_told()


@dataclass
class Worker:
    """Takes runs of a study and runs them.

    Args:
        folder: of the study.
    """

    folder: Path
    owner: str = field(default_factory=this_process)
    _stopping: bool = False

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.store = Store(self.folder)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Has the worker end when the run's step is over; a signal's handler."""
        self._stopping = True

    def end_if_told(self) -> None:
        """Ends the run that is prepared, to be given back.

        Raises:
            SystemExit: the worker was told to stop.
        """
        if self._stopping:
            sys.exit(EXIT_CODE)

    def work(self) -> int:
        """Runs what there is to run.

        Returns:
            The exit status: 0 when nothing is left, 75 when it was told to stop, 74 when it cannot write.
        """
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
        try:
            while not self._stopping and (claimed := self.store.claim(self.owner)) is not None:
                for number in before:  # a run leaves handlers behind that would keep its trainer
                    signal.signal(number, self.stop)
                try:
                    with self._signs_of_life(claimed.run):
                        stopped = self._run(claimed)
                except InUseError:
                    # Its worker of before ends when it sees that the run is another's; who else holds the folder has
                    # this run fail at last
                    self.store.release(self.owner, dead=True)
                    self._wait(2 * BEAT)
                    continue
                if stopped is not None:
                    self.store.release(self.owner)
                    sys.stderr.write(f"{stopped}\n" if stopped else "")
                    if stopped or not self._stopping:
                        return STOPPED if stopped else EXIT_CODE
                gc.collect()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._stopping:
            requeue()  # within a training it asks itself
        return EXIT_CODE if self._stopping else 0

    def _wait(self, seconds: float) -> None:
        """Waits, but not for a worker that is told to stop."""
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            time.sleep(min(LOOK, seconds))

    @contextlib.contextmanager
    def _signs_of_life(self, run: str) -> Iterator[None]:
        over = threading.Event()

        def live() -> None:
            while not over.wait(BEAT):
                with contextlib.suppress(DataError):  # busy: the next one will do
                    if not self.store.live(self.owner, run):
                        os._exit(1)  # suspended for long, and the run is another's now

        thread = threading.Thread(target=live, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _run(self, claimed: Claimed) -> str | None:
        """Runs one, and writes down what came of it; why the worker must end, or None ("" when it was told to).

        Raises:
            InUseError: another process works in the run's folder.
        """
        place = self.folder / RUNS / claimed.run
        about = {**about_this_machine(), "folder": str((place / "version_0").relative_to(self.folder))}
        try:
            place.mkdir(parents=True, exist_ok=True)
            with output_into(place / OUTPUT):
                outcome, chosen = self._outcome(claimed, place)
        except InUseError:
            raise
        except SystemExit as error:
            if error.code == EXIT_CODE or self._stopping:  # Lightning, too, ends a run by SIGTERM
                return ""
            told = refusal(place / OUTPUT) or f"the run has ended with status {error.code}"
            if lacks_room(error):
                return told
            self.store.fail(self.owner, claimed.run, told, about)
        except Exception as error:
            if lacks_room(error):
                return " ".join(str(error).split())
            with contextlib.suppress(OSError), open(place / OUTPUT, "a") as file:
                traceback.print_exc(file=file)
            told = user_message(error) or f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.store.fail(self.owner, claimed.run, told, about)
        else:
            self.store.finish(self.owner, claimed.run, outcome, {**about, **chosen})
        return None

    def _outcome(self, claimed: Claimed, place: Path) -> tuple[Outcome, dict[str, str]]:
        if (place / "version_0").exists():
            with locked(place / "version_0"):  # a worker that was silent for long may be in it yet
                pass
        if claimed.search is not None:
            return self._trial(claimed, place)
        fit(self.fit_arguments(claimed, place), place, with_callbacks(Stopping(self)))
        if claimed.test:
            self.end_if_told()
            test(place)
        return read_outcome(place / "version_0", claimed.test), {}

    def fit_arguments(self, claimed: Claimed, place: Path) -> list[str]:
        """The command line of a run's training, in a folder of its own."""
        own = {
            "trainer.logger": "mebns_pl.BoardLogger",
            "trainer.logger.save_dir": str(place.parent),
            "trainer.logger.name": place.name,
            "trainer.logger.version": 0,
            "trainer.logger.default_hp_metric": False,
            "trainer.enable_progress_bar": False,
        }
        before = ["", *claimed.arguments]
        given = [
            str(self.folder / argument) if option == "-c" else argument
            for option, argument in zip(before, claimed.arguments, strict=False)
        ]
        return ["fit", *given, *as_arguments(own)]

    def _trial(self, claimed: Claimed, place: Path) -> tuple[Outcome, dict[str, str]]:
        """Runs a trial of a search: options of Optuna's choice, anew where it was interrupted."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        from mebns_pl.study.search import open_search, seed_of, suggested

        assert claimed.search is not None
        name = ",".join(f"{axis}={value}" for axis, value in claimed.axes.items())
        ranges, pruning = claimed.search["ranges"], claimed.search["pruning"]
        asked = {"config": claimed.config, "ranges": ranges}
        study = open_search(self.folder, name, seed_of(claimed.run), pruning, asked)
        for begun in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if begun.user_attrs.get("run") == claimed.run:  # its worker is no more
                study.tell(begun.number, state=TrialState.FAIL)
        shutil.rmtree(place / "version_0", ignore_errors=True)
        trial = study.ask()
        trial.set_user_attr("run", claimed.run)
        notes: list[dict[str, str]] = []
        try:
            chosen = suggested(trial, ranges)
            watched = with_callbacks(Stopping(self), Pruning(trial))
            fit([*self.fit_arguments(claimed, place), *as_arguments(chosen)], place, watched)
        except TrialPruned as pruned:
            notes = [{"code": "pruned", "text": f"the trial was stopped {pruned}: worse than the median of others"}]
            study.tell(trial, state=TrialState.PRUNED)
        except BaseException:
            study.tell(trial, state=TrialState.FAIL)
            raise
        outcome = read_outcome(place / "version_0", test=False)
        if not notes:
            study.tell(trial, outcome.metrics["val/mrr"])
        outcome = Outcome(**{**vars(outcome), "notes": [*outcome.notes, *notes]})
        return outcome, {"config": json.dumps({**claimed.config, **chosen})}


def lacks_room(error: BaseException | None) -> bool:
    """Whether a full disk, or one that cannot be written to, is behind an error.

    Example:
        >>> lacks_room(OSError(28, "No space left on device")), lacks_room(ValueError("no"))
        (True, False)
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        error = error.__cause__ or error.__context__
    return False


def with_callbacks(*callbacks: Callback) -> type[WarmCLI]:
    """The command line whose trainers have callbacks more, behind all others."""

    class WatchedCLI(WarmCLI):
        """The command line of a worker's run."""

        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
            return trainer

    return WatchedCLI


def fit(arguments: list[str], place: Path, kind: type[MeBNSCLI]) -> None:
    """Trains, from the last checkpoint where there is one that can be used, else from the start."""
    run = place / "version_0"
    # A run that was killed behind its last checkpoint may not have written all that came of it
    fitted = run / ".fitted"
    if fitted.exists():
        return
    if (run / "checkpoints" / "last.ckpt").exists():
        try:
            if main([*arguments, "--resume"], kind).trainer.state.fn is not None:
                fitted.touch()
                return
        except CheckpointWriteError:  # the one that is there is good
            raise
        except CheckpointError:  # it cannot be used: anew
            pass
    shutil.rmtree(run, ignore_errors=True)
    main(arguments, kind)
    fitted.touch()


def test(place: Path) -> None:
    """Tests the best epoch of a run, and writes into its folder.

    Raises:
        DataError: there is none.
    """
    run = place / "version_0"
    best = run / "checkpoints" / "best.ckpt"
    if not best.exists():
        raise DataError(f"{best}: there is no best epoch, for none was validated; see trainer.check_val_every_n_epoch")
    # A run that was gone on with does not say which of its logger's folders it has
    main(["test", "-c", str(run / "config.yaml"), f"--ckpt_path={best}", "--trainer.logger.version=0"], WarmCLI)


def parse(arguments: list[str], output: Path) -> str | None:
    """Looks at the options of a run; what is wrong with them in one line, or None."""
    output.unlink(missing_ok=True)
    try:
        with output_into(output):
            main(["fit", *arguments], ParsingCLI)
    except SystemExit:
        return refusal(output) or "options that cannot be used"
    except Exception as error:
        return user_message(error) or f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def refusal(output: Path) -> str | None:
    """What the command line has last refused, out of all that was said."""
    mark = "mebns: error: "
    lines = output.read_text("utf-8", errors="replace").splitlines() if output.exists() else []
    told = [line.partition(mark)[2] for line in lines if mark in line]
    return told[-1] if told else None


@contextlib.contextmanager
def output_into(path: Path) -> Iterator[None]:
    """All that is said within goes to the end of a file, that of libraries in other languages, too."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(path, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        finally:
            for number, copy in enumerate(kept, start=1):
                os.dup2(copy, number)
                os.close(copy)


def led(worker: Worker) -> int:
    """Takes orders: ``{"parse": [arguments, ...]}``, answered by what is refused, or null, and ``{"work": true}``."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else speaks there
    for line in sys.stdin:
        order = json.loads(line)
        if "work" in order:
            threading.Thread(target=_end_with_the_sweep, daemon=True).start()
            return worker.work()
        scratch = worker.folder / f".parsed.{os.getpid()}.txt"
        told = [
            parse(worker.fit_arguments(_only(arguments), worker.folder)[1:], scratch) for arguments in order["parse"]
        ]
        scratch.unlink(missing_ok=True)
        answers.write(json.dumps(told) + "\n")
        answers.flush()
    return 0


def _only(arguments: list[str]) -> Claimed:
    return Claimed("", {}, arguments, False, None, {})


def _end_with_the_sweep() -> None:
    """A sweep that is gone, killed even, has closed our standard input; its next start takes the run up again."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def start(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = OneLineParser(prog="mebns_pl.cli.worker", description="Runs what a study has left to run.")
    parser.add_argument("folder", type=Path, help="of the study, as `mebns sweep` has made it")
    parser.add_argument("--led", action="store_true", help="take orders from standard input")
    parser.add_argument("--cores", type=str, help="numbers of the cores to stay on, with commas between them")
    given = parser.parse_args(arguments)
    if given.cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(core) for core in given.cores.split(",")])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    worker = Worker(given.folder)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, worker.stop)
    try:
        return led(worker) if given.led else worker.work()
    except DataError as error:
        sys.stderr.write(f"mebns: error: {error}\n")
        return STOPPED


if __name__ == "__main__":
    sys.exit(start())
