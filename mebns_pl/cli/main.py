"""Wiring of the command line: ``mebns fit | validate | test | predict | score | landscape | datasets | samplers``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from rich.console import Console

from mebns_pl.allocator import keep_freed_memory
from mebns_pl.callbacks.card import EvaluationCard
from mebns_pl.callbacks.cost import InspectionCost
from mebns_pl.callbacks.hparams import HyperParameters
from mebns_pl.callbacks.last_checkpoint import LastCheckpoint
from mebns_pl.callbacks.metrics_file import MetricsFile
from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.callbacks.migration_figures import MigrationFigures
from mebns_pl.callbacks.preemption import EXIT_CODE, Preemption
from mebns_pl.callbacks.probe_record import ProbeRecord
from mebns_pl.callbacks.progress_bar import OneLineBar
from mebns_pl.callbacks.projector import Projector
from mebns_pl.callbacks.results import ResultTable
from mebns_pl.cli.auto import with_choice
from mebns_pl.cli.commands import WITHOUT_A_RUN
from mebns_pl.cli.messages import OneLineParser, bad_input, user_message
from mebns_pl.cli.notes import quieten
from mebns_pl.cli.own_code import look_here
from mebns_pl.cli.preflight import check_config_file, check_folder, check_launcher, check_run
from mebns_pl.cli.resume import FoundCheckpoint, Resume, take_resume, without_resume
from mebns_pl.cli.run_folder import run_folders
from mebns_pl.cli.saved_run import CONFIG, SavedRun, find_run, log_into, options_of
from mebns_pl.cli.seal import sealed
from mebns_pl.cli.trust import FLAG, only_trusted, take_trust
from mebns_pl.config_files import find_config_file, near_config_name
from mebns_pl.data.datamodule import LinkDataModule, reading_once
from mebns_pl.distributed.heartbeats import RankError
from mebns_pl.distributed.start_watch import StartWatch
from mebns_pl.errors import DataError
from mebns_pl.families import import_all
from mebns_pl.files import write_atomically
from mebns_pl.prediction.files import check_table_path, write_table
from mebns_pl.prediction.links import NewNodes, score_links
from mebns_pl.prediction.writer import PredictionWriter
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.identity import plain
from mebns_pl.systems.mebns import MeBNS
from mebns_pl.systems.run_state import run_folder
from mebns_pl.systems.scoring import AbstractScoring
from mebns_pl.systems.trainer_options import callbacks_of
from mebns_pl.terminal import link_table, pool_table, say

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Link prediction with meta-bootstrapped negative sampling. `mebns datasets` lists the graphs there are, "
    "`mebns samplers` the samplers; `mebns landscape --ckpt FILE` looks at the loss round trained students; "
    "`mebns sweep STUDY.yaml` runs many configurations, `mebns report FOLDER` says what they have shown, "
    "`mebns explore RUN` what has migrated. --trust lets the saved options of a run, and a checkpoint, bring code of "
    "their own."
)

FIT_DESCRIPTION = (
    "Trains. --resume goes on with the newest run in the logger's folder, --resume=RUN with that run (its folder or a "
    "checkpoint) and its own options; others may follow."
)

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 100,
    "accelerator": "auto",
    "devices": 1,
    "logger": {
        "class_path": "mebns_pl.callbacks.board.BoardLogger",
        "init_args": {"save_dir": "logs", "name": "mebns", "default_hp_metric": False},
    },
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "check_val_every_n_epoch": 5,
    "enable_model_summary": False,
    # Lightning's sampler pads with duplicates; the data module gives each rank its own share
    "use_distributed_sampler": False,
}

PREDICTIONS = "predictions.csv"
"""Where predictions go by default: in the run's folder, where it is known."""

CHECKPOINT_DEFAULTS: dict[str, Any] = {
    "checkpoint.monitor": "val/mrr",
    "checkpoint.mode": "max",
    "checkpoint.filename": "best",
    "checkpoint.enable_version_counter": False,
}


class SaveConfig(SaveConfigCallback):
    """Saves the run's configuration beside its logs; a run without logs leaves nothing in the working directory."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes ``config.yaml``; not which checkpoint the run goes on from, so that it can begin anew."""
        if trainer.logger is None or self.already_saved:
            return
        if stage == "fit":
            self.config = without_resume(self.config)
        folder = run_folder(trainer)
        if folder is None or "://" in folder:
            super().setup(trainer, pl_module, stage)
            return
        if trainer.is_global_zero:
            write_atomically(Path(folder, "config.yaml"), sealed(self.parser.dump(self.config, skip_unset=False)))
        self.already_saved = True


class LinkTrainer(Trainer):
    """Lightning's trainer with one stage more, from whose signature the command line makes ``mebns score``."""

    def score(
        self,
        model: AbstractEvaluation,
        datamodule: LinkDataModule,
        pairs: str,
        path: str = "scores.csv",
        nodes: str | None = None,
        edges: str | None = None,
        scoring: AbstractScoring | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> int:
        """Scores given pairs of nodes, in their order.

        Args:
            model: the system.
            datamodule: the data.
            pairs: table of pairs by name, columns source and target: CSV, TSV or Parquet.
            path: the file to write, .csv or .parquet.
            nodes: table of new nodes, column node and the features of the known ones; for students with features.
            edges: table of the new nodes' edges, columns source and target.
            scoring: by the student alone (default), or CascadeScoring.
            ckpt_path: the checkpoint; without -c the config.yaml of its run is used.
            weights_only: as in predict; false, which a checkpoint of this package never needs, goes with --trust.

        Returns:
            How many pairs were written.
        """
        file = check_table_path(path)
        check_folder(file.parent, "path")
        if edges is not None and nodes is None:
            raise DataError(f"edges: got {edges!r} without nodes; new edges go with a table of new nodes")
        new = None if nodes is None else NewNodes(nodes, edges)
        table = score_links(model, datamodule, pairs, new=new, scoring=scoring, trainer=self, ckpt_path=ckpt_path)
        write_table(table, file)
        return len(table)


class FirstBatch(Callback):
    """Knows whether a run has come to its first batch: by then all that it was given has been looked at."""

    reached = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """In a process that Lightning has spawned, nobody has chosen yet what is said beside the results."""
        quieten()

    def _reach(self, *_: Any) -> None:
        self.reached = True

    on_train_batch_start = on_validation_batch_start = _reach  # type: ignore[assignment]
    on_test_batch_start = on_predict_batch_start = _reach  # type: ignore[assignment]


class MeBNSCLI(LightningCLI):
    """LightningCLI with the links between data and model, and with ``fit --resume``.

    Args:
        resume: how ``fit`` goes on with a run that was stopped, or None to begin anew.
        trust: whether files may bring code along.
        options: those of LightningCLI.
    """

    def __init__(self, resume: Resume | None = None, trust: bool = False, **options: Any) -> None:
        self.resume, self.trust = resume, trust
        self.checkpoint: FoundCheckpoint | None = None
        self.finished = False
        self.saved: SavedRun | None = None
        super().__init__(**options)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, without ``dataloaders``, and ``score``."""
        return {**LightningCLI.subcommands(), "score": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the callbacks that every run has, and hands the data module's seed and graph size on."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(MigrationMonitor, "migration")
        parser.add_lightning_class_args(MigrationFigures, "figures")
        parser.add_lightning_class_args(Projector, "projector")
        parser.add_lightning_class_args(ProbeRecord, "record")
        parser.add_lightning_class_args(EvaluationCard, "card")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(Preemption, "preemption")
        parser.set_defaults(CHECKPOINT_DEFAULTS)
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        parser.set_defaults({"model": {"class_path": f"{MeBNS.__module__}.{MeBNS.__name__}"}})
        parser.link_arguments("checkpoint.dirpath", "last_checkpoint.dirpath")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=checked_seed)
        parser.link_arguments("data.spec", "model.init_args.spec", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Nothing: checkpoints hold no hyperparameters, and the strategy says clearly what is wrong with a file."""

    def instantiate_classes(self) -> None:
        """Makes them; a value that one of them refuses is the user's to mend."""
        with bad_input():
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer; a refusal names the options that choose the device, which Lightning's need not.

        Raises:
            DataError: an option out of its range, no such device here, or a cluster that this process is not on.
        """
        given = self._get(self.config_init, "trainer")
        check_launcher(given.plugins)
        try:
            trainer = super().instantiate_trainer(**kwargs)
            # What people are told of a test comes after its table
            trainer.callbacks.sort(key=lambda callback: isinstance(callback, EvaluationCard))  # type: ignore[attr-defined]
            return trainer
        except (MisconfigurationException, ValueError, TypeError) as error:
            told = f"trainer, with accelerator {given.accelerator!r} and devices {given.devices!r}: {error}"
            raise DataError(told) from error

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Makes the trainer: with a bar on one line; where no checkpoints are wanted, with nothing that writes them."""
        if config.get("enable_checkpointing") is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        own = config.get("callbacks") or []
        barred = any(isinstance(callback, ProgressBar) for callback in (own if isinstance(own, list) else [own]))
        if config.get("enable_progress_bar") is not False and not config.get("barebones") and not barred:
            callbacks = [*callbacks, OneLineBar()]
        return super()._instantiate_trainer(config, callbacks)

    def _run_subcommand(self, subcommand: str) -> None:
        ckpt_path = self._get(self.config_init, "ckpt_path")
        first_batch = FirstBatch()
        self.trainer.callbacks.append(first_batch)  # type: ignore[attr-defined]
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if self.saved is not None and isinstance(callback, MetricsFile | EvaluationCard):
                callback.folder = self.saved.folder
        with bad_input(over=lambda: first_batch.reached):
            check_run(subcommand, self.model, self.datamodule, self.trainer, ckpt_path)
            self.finished = self.checkpoint is not None and self.checkpoint.is_finished(self.trainer)
            with nullcontext() if self.finished else run_folders(self.trainer, subcommand):
                super()._run_subcommand(subcommand)

    def after_fit(self) -> None:
        """Says where the run is. One that was told to stop is no success: who started it should start it again."""
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if self.trainer.is_global_zero and best:
            say(f"\nBest checkpoint: {best.removeprefix(f'{Path.cwd()}/')}")
        if any(preemption.preempted for preemption in callbacks_of(self.trainer, Preemption)):
            sys.exit(EXIT_CODE)

    def before_instantiate_classes(self) -> None:
        """Finds the checkpoint that ``--resume`` goes on from, or the run that another command is about.

        Such a command writes into the run's folder, and leaves the run's ``config.yaml`` as it is.
        """
        if self.resume is not None:
            self.checkpoint = self.resume.find(self.config.fit)
        command = str(self.subcommand)
        options = self.config.get(command)
        if options is not None and options.get("weights_only") is False and not self.trust:
            raise DataError(
                "weights_only: got false, which lets a checkpoint run any code; checkpoints of this package need it "
                f"not. Allowed is null or true, and false with {FLAG}"
            )
        if command == "fit":
            awaited = str(options.checkpoint.monitor).startswith("val/") and options.trainer.limit_val_batches == 0
            if awaited or (options.data.split.get("val") == 0 and options.data.get("protocol") is None):
                options.checkpoint.monitor, options.trainer.limit_val_batches = None, 0
                options.checkpoint.save_on_train_epoch_end = True  # the last epoch is kept
            every, epochs = options.trainer.check_val_every_n_epoch, options.trainer.max_epochs
            if every is not None and epochs is not None and 0 < epochs < every:
                options.trainer.check_val_every_n_epoch = epochs  # a short run has a best epoch, too
            return
        if options is None or not options.get("ckpt_path"):
            return
        self.saved = find_run(options.ckpt_path)
        if self.saved.folder is not None:
            log_into(self.saved, options, command)
            self.save_config_callback = None
            if options.predictions.path == PREDICTIONS:
                options.predictions.path = str(self.saved.folder / PREDICTIONS)

    def after_instantiate_classes(self) -> None:
        """Hands the model the options that it was made from, for checkpoints to hold."""
        options = without_resume(self.config.get(str(self.subcommand), self.config)).as_dict()
        self.model.run_config = {part: plain(options.get(part)) for part in ("model", "data", "trainer")}

    def fit(self, **kwargs: Any) -> None:
        """Trains, unless the run that ``--resume`` has found is finished."""
        if self.finished:
            return
        try:
            self.trainer.fit(**kwargs)
        except (KeyboardInterrupt, SystemExit):  # Lightning makes the second of the first
            last = callbacks_of(self.trainer, LastCheckpoint)
            path = last[0].path(self.trainer) if last else Path()
            if self.trainer.interrupted and self.trainer.is_global_zero and path.is_file():
                say(f"\nStopped in epoch {self.trainer.current_epoch}. Go on with: mebns fit --resume={path}")
            raise

    def test(self, **kwargs: Any) -> None:
        """Tests, with our table in place of Lightning's."""
        self._warn_untrained(kwargs)
        self.trainer.test(**{**kwargs, "verbose": False})

    def predict(self, **kwargs: Any) -> None:
        """Predicts; the writer keeps the best links, so that not all scores pile up in memory."""
        self._warn_untrained(kwargs)
        self.trainer.predict(**{**kwargs, "return_predictions": False})

    def score(self, **kwargs: Any) -> None:
        """Scores given pairs."""
        self._warn_untrained(kwargs)
        count = self.trainer.score(**kwargs)  # type: ignore[attr-defined]
        say(f"{count:,} pairs scored: {kwargs['path']}")

    def _warn_untrained(self, kwargs: dict[str, Any]) -> None:
        learns = any(True for _ in self.model.parameters())  # a heuristic has nothing to load
        if learns and kwargs.get("ckpt_path") is None:
            log.warning("no --ckpt_path was given: the model's weights are untrained")

    def after_predict(self) -> None:
        """Shows the first of the links that were written."""
        writer = callbacks_of(self.trainer, PredictionWriter)[0]
        if self.trainer.is_global_zero and writer.table is not None and writer.pool is not None:
            console = Console()
            console.print("\nPairs that were scored; coverage: share of the held-out edges that the same pool")
            console.print("would hold if it were built on the training graph")
            console.print(pool_table(writer.pool.report))
            console.print("\nTop predicted links")
            console.print(link_table(writer.table.head(10)))
            say(f"{len(writer.table):,} links: {writer.path}")


def checked_seed(seed: int) -> int:
    """The seed, where it is one that every generator takes.

    Raises:
        DataError: it is negative, or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise DataError(f"seed_everything: got {seed}; allowed is an integer in 0 ... {2**32 - 1:,}")
    return int(seed)


def completed(args: list[str]) -> list[str]:
    """What commands that work with a trained model let one leave out.

    ``score PAIRS`` stands for ``score --pairs PAIRS``, ``test RUN`` for ``test --ckpt_path RUN``, likewise
    ``validate`` and ``predict``; a run's folder stands for its best checkpoint, and a checkpoint without ``-c`` brings
    the options of its run along.
    """
    if not args or args[0] not in ("validate", "test", "predict", "score"):
        return args
    command, rest = args[0], args[1:]
    if rest and not rest[0].startswith("-"):
        rest = ["--pairs" if command == "score" else "--ckpt_path", *rest]
    checkpoints = _given(rest, "--ckpt_path")
    if not checkpoints or not checkpoints[-1]:
        return [command, *rest]
    run = find_run(checkpoints[-1])
    if Path(checkpoints[-1]).is_dir():
        rest = [*rest, f"--ckpt_path={run.checkpoint}"]
    config = None if _given(rest, "-c", "--config") else options_of(run)
    return [command, *([] if config is None else ["-c", str(config)]), *rest]


def _given(args: list[str], *names: str) -> list[str]:
    """What the command line gives an option, each time that it names it."""
    return [
        arg.partition("=")[2] or after
        for arg, after in zip(args, [*args[1:], ""], strict=False)
        if arg.partition("=")[0] in names
    ]


def _source(config: str, args: list[str]) -> str:
    """Where saved options come from, for people to look at: a file of a run, or a checkpoint alone."""
    return config if Path(config).name == CONFIG else _given(args, "--ckpt_path")[-1]


def with_config_files(args: list[str]) -> list[str]:
    """The command line, with the paths of configurations that it names as ``-c sampler/dns``.

    Raises:
        DataError: there is no such file.

    Example:
        >>> Path(with_config_files(["fit", "--data.batch_size=9", "-c", "base"])[-1]).name
        'base.yaml'
    """
    found, before = [], ""
    for arg in args:
        name, equals, value = arg.partition("=")
        if before in _CONFIG_OPTIONS:
            arg = _config_path(arg)
        elif equals and name in _CONFIG_OPTIONS:
            arg = f"{name}={_config_path(value)}"
        found.append(arg)
        before = arg
    return found


def _config_path(name: str) -> str:
    found = find_config_file(name)
    if found is None:
        raise DataError(f"{name}: no such file{near_config_name(name)}")
    return str(found)


_CONFIG_OPTIONS = ("-c", "--config")


def main(args: ArgsType = None, kind: type[MeBNSCLI] = MeBNSCLI) -> MeBNSCLI:
    """Runs the command line.

    Args:
        args: command line as a list of strings, or None for ``sys.argv``.
        kind: what a run is made by.

    Raises:
        SystemExit: after ``datasets``, ``samplers``, ``landscape``, ``sweep``, ``report``, ``explore``, as after
            ``--help``.
    """
    given = sys.argv[1:] if args is None else args
    quieten()
    if isinstance(given, list) and given and given[0] in WITHOUT_A_RUN:
        with bad_input():
            WITHOUT_A_RUN[given[0]](given[1:])
        sys.exit(0)
    import_all()  # options name classes, which are looked for among those that have been imported
    keep_freed_memory()
    resume, trust = None, False
    # What `auto` looks at is the graph of the run
    with StartWatch() as start_watch, reading_once(), ExitStack() as guard:
        if isinstance(given, list):
            trust, given = take_trust(given)
            given = with_config_files(given)
            words, files = given, _given(given, *_CONFIG_OPTIONS)
            look_here([*words, *(Path(path).read_text("utf-8", errors="replace") for path in files)])
            resume, given = take_resume(completed(given))
            for path in (found := _given(given, *_CONFIG_OPTIONS)):
                check_config_file(path)
            saved = [path for path in found if path not in files]
            if saved and not trust:
                told = [Path(path).read_text("utf-8") for path in files]
                guard.enter_context(only_trusted(_source(saved[0], given), [*words, *told]))
            given = with_choice(given)
        return kind(
            trainer_class=LinkTrainer,
            resume=resume,
            trust=trust,
            model_class=LightningModule,
            datamodule_class=LinkDataModule,
            subclass_mode_model=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # checkpoints hold what a run was made of, and no hyperparameters
            trainer_defaults={
                "callbacks": [MetricsFile(), ResultTable(), HyperParameters(), InspectionCost(), start_watch]
            },
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            # Without abbreviations: `--trainer.max_epoch` would be taken for another option that begins so
            parser_kwargs={
                "prog": "mebns",
                "description": DESCRIPTION,
                "allow_abbrev": False,
                "fit": {"description": FIT_DESCRIPTION},
            },
            parser_class=OneLineParser,
            args=given,
        )


def run(args: ArgsType = None, command: Callable[[Any], object] | None = None) -> None:
    """Runs a command. What a user can mend is told in one line on standard error; the exit status is 0, or 1.

    Wrong arguments exit with 2. With the environment variable ``MEBNS_DEBUG`` set, errors come with their traceback,
    as those that are faults of the program always do.

    Args:
        args: command line as a list of strings, or None for ``sys.argv``.
        command: what is run with them; None for a run.

    Raises:
        SystemExit: something was wrong.
    """
    try:
        (command or main)(args)
    except Exception as error:
        if isinstance(error.__cause__, RankError) and not os.environ.get("MEBNS_DEBUG"):
            sys.exit(1)  # it has been told
        told = user_message(error)
        if told is None or os.environ.get("MEBNS_DEBUG"):
            raise
        sys.stderr.write(f"mebns: error: {told}\n")
        sys.exit(1)
