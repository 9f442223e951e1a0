"""Wiring of the command line: ``mebns fit | validate | test | predict | score | landscape | datasets | samplers``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from rich.console import Console

from mebns_pl.allocator import keep_freed_memory
from mebns_pl.callbacks.hparams import HyperParameters
from mebns_pl.callbacks.last_checkpoint import LastCheckpoint
from mebns_pl.callbacks.migration import MigrationMonitor
from mebns_pl.callbacks.migration_figures import MigrationFigures
from mebns_pl.callbacks.preemption import EXIT_CODE, Preemption
from mebns_pl.callbacks.results import ResultTable
from mebns_pl.cli.commands import WITHOUT_A_RUN
from mebns_pl.cli.messages import parse_message, user_message
from mebns_pl.cli.notes import quieten
from mebns_pl.cli.preflight import check_config_file, check_run
from mebns_pl.cli.resume import FoundCheckpoint, Resume, take_resume, without_resume
from mebns_pl.cli.saved_run import config_beside
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.distributed.start_watch import StartWatch
from mebns_pl.errors import DataError
from mebns_pl.prediction.files import check_table_path, write_table
from mebns_pl.prediction.links import NewNodes, score_links
from mebns_pl.prediction.writer import PredictionWriter
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.identity import plain
from mebns_pl.systems.mebns import MeBNS
from mebns_pl.systems.scoring import AbstractScoring
from mebns_pl.terminal import link_table, pool_table

log = logging.getLogger(__name__)

DESCRIPTION = (
    "Link prediction with meta-bootstrapped negative sampling. `mebns datasets` lists the graphs there are, "
    "`mebns samplers` the samplers; `mebns landscape --ckpt FILE` looks at the loss round trained students."
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
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": "logs", "name": "mebns", "default_hp_metric": False},
    },
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "check_val_every_n_epoch": 5,
    "enable_model_summary": False,
    # Lightning's sampler pads with duplicates; the data module gives each rank its own share
    "use_distributed_sampler": False,
}

CHECKPOINT_DEFAULTS: dict[str, Any] = {
    "checkpoint.monitor": "val/mrr",
    "checkpoint.mode": "max",
    "checkpoint.filename": "best",
    "checkpoint.enable_version_counter": False,
}


class OneLineParser(LightningArgumentParser):
    """Refuses wrong arguments by one line, without a page of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Says what is wrong, and exits with 2."""
        if not self.exit_on_error or os.environ.get("MEBNS_DEBUG"):
            super().error(message, ex)
        self.exit(2, f"mebns: error: {parse_message(message, _option_names(self))}\n")


def _option_names(parser: argparse.ArgumentParser) -> list[str]:
    """Names of all arguments, those of subcommands included."""
    names = [option.lstrip("-") for action in parser._actions for option in action.option_strings]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and isinstance(action.choices, dict):
            names += [name for sub in action.choices.values() for name in _option_names(sub)]
    return list(dict.fromkeys(names))


def _config_files(arguments: Sequence[str]) -> list[str]:
    files = [value for name, value in pairwise(arguments) if name in ("-c", "--config")]
    return files + [value.partition("=")[2] for value in arguments if value.startswith("--config=")]


class SaveConfig(SaveConfigCallback):
    """Saves the run's configuration beside its logs; a run without logs leaves nothing in the working directory."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes ``config.yaml``; not which checkpoint the run goes on from, so that it can begin anew."""
        if trainer.logger is not None:
            if stage == "fit":
                self.config = without_resume(self.config)
            super().setup(trainer, pl_module, stage)


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
            weights_only: as in predict; checkpoints of this package load either way.

        Returns:
            How many pairs were written.
        """
        file = check_table_path(path)
        if edges is not None and nodes is None:
            raise DataError(f"edges: got {edges!r} without nodes; new edges go with a table of new nodes")
        new = None if nodes is None else NewNodes(nodes, edges)
        table = score_links(model, datamodule, pairs, new=new, scoring=scoring, trainer=self, ckpt_path=ckpt_path)
        write_table(table, file)
        return len(table)


class MeBNSCLI(LightningCLI):
    """LightningCLI with the links between data and model, and with ``fit --resume``.

    Args:
        resume: how ``fit`` goes on with a run that was stopped, or None to begin anew.
        options: those of LightningCLI.
    """

    def __init__(self, resume: Resume | None = None, **options: Any) -> None:
        self.resume = resume
        self.checkpoint: FoundCheckpoint | None = None
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

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer; a refusal names the options that choose the device.

        Raises:
            MisconfigurationException: no such device here.
        """
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            chosen = self._own(self.config_init)["trainer"]
            if not any(word in str(error).lower() for word in ("accelerator", "device", "gpu", "backend")):
                raise
            got = f"trainer.accelerator, trainer.devices: got {chosen['accelerator']!r} and {chosen['devices']!r}"
            raise MisconfigurationException(f"{got}: {error}") from None

    def _own(self, config: Namespace) -> Namespace:
        """The part of the subcommand; all of it where there is none (``run=False``)."""
        return config if self.subcommand is None else config[self.subcommand]

    def _run_subcommand(self, subcommand: str) -> None:
        ckpt_path = self.config_init[subcommand].get("ckpt_path")
        check_run(subcommand, self.model, self.datamodule, self.trainer, ckpt_path)
        super()._run_subcommand(subcommand)

    def after_fit(self) -> None:
        """Says where the run is. One that was told to stop is no success: who started it should start it again."""
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if self.trainer.is_global_zero and best:
            Console().print(f"\nBest checkpoint: {_short(best)}", soft_wrap=True)
        if any(isinstance(c, Preemption) and c.preempted for c in self.trainer.callbacks):  # type: ignore[attr-defined]
            sys.exit(EXIT_CODE)

    def before_instantiate_classes(self) -> None:
        """Finds the checkpoint that ``--resume`` goes on from."""
        if self.resume is not None:
            self.checkpoint = self.resume.find(self.config.fit)

    def after_instantiate_classes(self) -> None:
        """Hands the model the options that it was made from, for checkpoints to hold."""
        options = without_resume(self._own(self.config)).as_dict()
        self.model.run_config = {part: plain(options.get(part)) for part in ("model", "data", "trainer")}

    def fit(self, **kwargs: Any) -> None:
        """Trains, unless the run that ``--resume`` has found is finished."""
        if self.checkpoint is None or not self.checkpoint.is_finished(self.trainer):
            self.trainer.fit(**kwargs)

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
        Console().print(f"{count:,} pairs scored: {kwargs['path']}", soft_wrap=True)

    def _warn_untrained(self, kwargs: dict[str, Any]) -> None:
        learns = any(True for _ in self.model.parameters())  # a heuristic has nothing to load
        if learns and kwargs.get("ckpt_path") is None:
            log.warning("no --ckpt_path was given: the model's weights are untrained")

    def after_predict(self) -> None:
        """Shows the first of the links that were written."""
        writer = next(c for c in self.trainer.callbacks if isinstance(c, PredictionWriter))  # type: ignore[attr-defined]
        if self.trainer.is_global_zero and writer.table is not None and writer.pool is not None:
            console = Console()
            console.print("\nPairs that were scored; coverage: share of the held-out edges that the same pool")
            console.print("would hold if it were built on the training graph")
            console.print(pool_table(writer.pool.report))
            console.print("\nTop predicted links")
            console.print(link_table(writer.table.head(10)))
            console.print(f"{len(writer.table):,} links: {writer.path}", soft_wrap=True)


def _short(path: str) -> str:
    """The path from the working directory, where it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def checked_seed(seed: int) -> int:
    """The seed, where it is one that every generator takes.

    Raises:
        ValueError: it is negative, or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"got {seed}; allowed is an integer in 0 ... {2**32 - 1:,}")
    return int(seed)


def completed(args: list[str]) -> list[str]:
    """What ``predict`` and ``score`` let one leave out.

    ``score PAIRS`` stands for ``score --pairs PAIRS``, and a checkpoint without ``-c`` brings the ``config.yaml`` of
    its run along.
    """
    if args[:1] not in (["predict"], ["score"]):
        return args
    command, rest = args[0], args[1:]
    if command == "score" and rest and not rest[0].startswith("-"):
        rest = ["--pairs", *rest]
    options = [argument.partition("=")[0] for argument in rest]
    if "--ckpt_path" in options and not {"-c", "--config"} & set(options):
        place = options.index("--ckpt_path")
        checkpoint = Path((rest[place].partition("=")[2] or [*rest, ""][place + 1]) or ".")
        config = config_beside(checkpoint)
        rest = ["-c", str(config), *rest] if config.is_file() else rest
    return [command, *rest]


def main(args: ArgsType = None) -> MeBNSCLI:
    """Runs the command line.

    Args:
        args: command line as a list of strings, or None for ``sys.argv``.

    Raises:
        SystemExit: after ``datasets``, ``samplers`` and ``landscape``, as after ``--help``: nothing is run.
    """
    given = sys.argv[1:] if args is None else args
    if isinstance(given, list) and given and given[0] in WITHOUT_A_RUN:
        quieten()
        WITHOUT_A_RUN[given[0]](given[1:])
        sys.exit(0)
    if isinstance(given, list):
        given = completed(given)
    quieten()
    keep_freed_memory()
    with StartWatch() as start_watch:
        resume, given = take_resume(given)
        for path in _config_files(given) if isinstance(given, list) else ():
            check_config_file(path)
        return MeBNSCLI(
            trainer_class=LinkTrainer,
            resume=resume,
            model_class=LightningModule,
            datamodule_class=LinkDataModule,
            subclass_mode_model=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            trainer_defaults={"callbacks": [ResultTable(), HyperParameters(), start_watch]},
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


def run(args: ArgsType = None) -> None:
    """The console script. What a user can mend is told in one line on standard error; the exit status is 0, or 1.

    Wrong arguments exit with 2. With the environment variable ``MEBNS_DEBUG`` set, errors come with their traceback,
    as those that are faults of the program always do.

    Args:
        args: command line as a list of strings, or None for ``sys.argv``.

    Raises:
        SystemExit: something was wrong.
    """
    try:
        main(args)
    except Exception as error:
        told = user_message(error)
        if told is None or os.environ.get("MEBNS_DEBUG"):
            raise
        sys.stderr.write(f"mebns: error: {told}\n")
        sys.exit(1)
