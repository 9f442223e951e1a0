"""``mebns run``: from a graph of one's own to its missing links, in one call; the same from Python, `find_links`."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from rich.console import Console
from torch_geometric.data import Data, HeteroData

from mebns_pl.callbacks.metrics_file import metrics_path
from mebns_pl.cli.main import MeBNSCLI, SaveConfig, main
from mebns_pl.cli.messages import bad_input
from mebns_pl.cli.one_line import ShortParser
from mebns_pl.errors import DataError
from mebns_pl.files import write_atomically
from mebns_pl.metrics_json import read_metrics, write_metrics
from mebns_pl.prediction.files import write_table
from mebns_pl.prediction.links import predict_links
from mebns_pl.study.plan import as_arguments
from mebns_pl.systems.checkpoint_io import AtomicCheckpointIO
from mebns_pl.systems.run_state import run_folder
from mebns_pl.systems.trainer_options import callbacks_of
from mebns_pl.terminal import link_table, reliability_table, say

LINKS = "links.csv"
"""Where the links go, in the run's folder."""
_SYSTEMS = ("Plain", "MeBNS")


class OwnGraphCLI(MeBNSCLI):
    """A run whose end by validation, which nobody has asked for, is left out where nothing is validated."""

    def before_instantiate_classes(self) -> None:
        """Leaves it out."""
        super().before_instantiate_classes()
        trainer = self.config.fit.trainer
        if trainer.limit_val_batches == 0 and isinstance(trainer.callbacks, list):
            trainer.callbacks = [callback for callback in trainer.callbacks if not _awaits_validation(callback)]


def _awaits_validation(callback: Namespace) -> bool:
    name, monitor = callback.class_path.rpartition(".")[2], callback.get("init_args.monitor")
    return name == EarlyStopping.__name__ and str(monitor).startswith("val/")


def find_links(
    edges: Any,
    nodes: Any = None,
    top_k: int = 100,
    *,
    per_node: bool = False,
    max_per_node: int | None = None,
    system: str = "Plain",
    out: str | Path = "logs",
    options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The missing links of a graph: splits it, trains what fits it, tests that, and ranks the pairs that are no edges.

    The model is chosen by the graph's size, density and features (``model.predictor: auto``); it is trained against
    uniform negatives, or by MeBNS; the best epoch is chosen on validation edges (without such it is the last, and no
    probability is told). Everything goes into one folder, a
    run as ``mebns fit`` makes it: configuration, checkpoints, ``metrics.json``, and ``links.csv``. Global random
    numbers are seeded.

    Args:
        edges: a path, a name of the catalogue, a table with the columns ``source`` and ``target`` (pandas or polars), a
            networkx graph, or PyG ``Data`` or ``HeteroData``.
        nodes: a path or a table with the column ``node`` and features, beside an edge list; or None.
        top_k: how many links, 1 or more.
        per_node: whether these are the links of each node and not of all.
        max_per_node: in how many of the links a node may stand; None for no cap.
        system: ``Plain``, or ``MeBNS``.
        out: folder of runs; the run is ``<out>/<name of the graph>/version_N``.
        options: of ``mebns fit``, by name, such as ``{"trainer.max_epochs": 20}``.

    Returns:
        Columns ``rank``, ``source``, ``target``, ``score``, ``probability``, ``logit``, ``why``, see
        :func:`predict_links`. ``attrs["folder"]`` is the run's folder.

    Raises:
        DataError: a graph that cannot be read, or parted; an object, or a system, of another kind.

    Example:
        >>> find_links(42)
        Traceback (most recent call last):
            ...
        mebns_pl.errors.DataError: edges: got int; allowed are a path, a table, a networkx graph or PyG Data
    """
    name = graph_name(edges) if isinstance(edges, str | Path) else "graph"
    place = Path(out, name)
    return _found(
        _as_path(edges, "edges", place),
        None if nodes is None else _as_path(nodes, "nodes", place),
        place,
        system,
        as_arguments(dict(options or {})),
        {"top_k": top_k, "per_node": per_node, "max_per_node": max_per_node},
    )


def run_command(arguments: Sequence[str]) -> None:
    """``mebns run``: the same from the command line.

    Raises:
        SystemExit: wrong arguments, or ``--help``.
    """
    parser = ShortParser(
        prog="mebns run",
        usage="mebns run EDGES [options]",
        description="From a graph to its missing links: reads EDGES (a file, or a name of `mebns datasets`), splits, "
        "trains, tests, and ranks the pairs that are no edges. All options of `mebns fit` may follow.",
    )
    parser.add_argument("--nodes", help="table of node features beside an edge list: column node, then features")
    parser.add_argument("--top_k", type=int, default=100, help="how many links (default: 100)")
    parser.add_argument("--per_node", action="store_true", help="top_k links of each node, and not of all")
    parser.add_argument("--max_per_node", type=int, help="in how many of the links a node may stand (default: no cap)")
    parser.add_argument("--system", default="Plain", help="Plain (default) or MeBNS")
    parser.add_argument("--out", default="logs", help="folder of runs (default: logs)")
    edges, rest = (arguments[0], arguments[1:]) if arguments and arguments[0][:1] != "-" else (None, arguments)
    given, options = parser.parse_known_args(rest)
    if edges is None:
        parser.error("EDGES comes first: the path of a graph's file, or a name of `mebns datasets`")
    wanted = {"top_k": given.top_k, "per_node": given.per_node, "max_per_node": given.max_per_node}
    _found(edges, given.nodes, Path(given.out, graph_name(edges)), given.system, options, wanted)


def graph_name(path: str | Path) -> str:
    """What the runs of a file's graph are called.

    Example:
        >>> graph_name("data/edges.csv.gz"), graph_name("air_routes")
        ('edges', 'air_routes')
    """
    return Path(path).name.partition(".")[0] or "graph"


def _found(
    edges: str, nodes: str | None, place: Path, system: str, options: Sequence[str], wanted: Mapping[str, Any]
) -> pd.DataFrame:
    """Fit, test and prediction, with what they say and write."""
    data = [f"--data.graph={edges}", *([] if nodes is None else [f"--data.nodes={nodes}"])]
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    try:
        with bad_input():
            if system not in _SYSTEMS:
                raise DataError(f"system: got {system!r}; allowed are {' and '.join(_SYSTEMS)}")
            if any(word.startswith("--data.oracle") for word in options):
                raise DataError(
                    "data.oracle: `mebns run` tests and predicts, as no oracle's run may; allowed with `mebns fit`"
                )
            # Of the writer's, and refused before anything is trained
            predicted = as_arguments({f"predictions.{name}": value for name, value in wanted.items()})
        lightning.setLevel(logging.WARNING)
        logger = {"save_dir": str(place.parent), "name": place.name}
        logs = as_arguments({f"trainer.logger.init_args.{key}": value for key, value in logger.items()})
        chosen = ["-c", "base", "-c", "run/own", f"--model={system}"]
        run = main(["fit", *chosen, *logs, *data, *predicted, *options], OwnGraphCLI)
        if run.finished:
            say("The training is finished; its best weights are tested, and predict, once more")
            for callback in callbacks_of(run.trainer, SaveConfig):
                callback.already_saved = True
        _test(run)
        links = predict_links(run.model, run.datamodule, explain=True, trainer=run.trainer, **wanted)
    finally:
        lightning.setLevel(level)
    _tell(links, run)
    return links


def _test(run: MeBNSCLI) -> None:
    """Tests the best weights, or says why not; they stay loaded. Where none were kept, they are the last."""
    best = _best(run)
    told = run.datamodule.unrankable("test") if run.datamodule.split.test.shape[1] else "split.test: no test edges"
    if told:
        say(f"{told}; there is no test")
        if best:
            run.model.load_state_dict(AtomicCheckpointIO().load_checkpoint(best)["state_dict"])
    else:
        run.trainer.test(run.model, run.datamodule, ckpt_path=best or None, verbose=False)


def _best(run: MeBNSCLI) -> str:
    """The file of the best weights, or "" where none were kept. Of a run that was finished before they are loaded."""
    saver = run.trainer.checkpoint_callback
    if not run.finished:
        return saver.best_model_path if isinstance(saver, ModelCheckpoint) else ""
    assert run.checkpoint is not None
    named = run.checkpoint.path.with_name(f"{saver.filename}.ckpt") if isinstance(saver, ModelCheckpoint) else None
    return str(named if named is not None and named.is_file() else run.checkpoint.path)


def _tell(links: pd.DataFrame, run: MeBNSCLI) -> None:
    """Writes the links and their reliability into the run's folder, and shows the first."""
    folder = Path(run_folder(run.trainer) or ".")
    links.attrs["folder"] = str(folder)
    write_table(links, folder / LINKS)
    console = Console()
    rows = links.attrs.get("reliability")
    if rows:
        path = metrics_path(run.trainer, folder)
        assert path is not None
        write_metrics(path, {**read_metrics(path), "reliability": rows})
        console.print("\nProbabilities, and what came of them: held-out edges among pairs that training has not seen")
        console.print(reliability_table(pd.DataFrame(rows)))
    if not run.datamodule.split.val.shape[1]:
        say("split.val: no validation edges; no probabilities are told")
    console.print("\nTop predicted links")
    console.print(link_table(links.head(10)))
    say(f"{len(links):,} links: {folder / LINKS}\nMore of this run: mebns predict {folder}")


def _as_path(given: Any, what: str, place: Path) -> str:
    """A path as it is; of an object a file beside the runs, named by what is in it, so that runs can be repeated."""
    if isinstance(given, str | Path):
        return str(given)
    content, suffix = io.BytesIO(), ".parquet"
    try:
        if isinstance(given, pd.DataFrame):
            given.to_parquet(content, index=False)
        elif type(given).__module__.startswith("polars.") and hasattr(given, "write_parquet"):
            given.write_parquet(content)
        elif what == "edges" and type(given).__module__.startswith("networkx."):
            import networkx  # where such a graph is, it is installed

            networkx.write_graphml(given, content)
            suffix = ".graphml"
        elif what == "edges" and isinstance(given, Data | HeteroData):
            torch.save(given, content)
            suffix = ".pt"
        else:
            others = ", a networkx graph or PyG Data" if what == "edges" else ""
            allowed = f"a path, a table{others}" if others else "a path or a table"
            raise DataError(f"{what}: got {type(given).__name__}; allowed are {allowed}")
    except DataError:
        raise
    except Exception as error:  # of three libraries: a table or graph with values that the format lacks
        raise DataError(f"{what}: this {type(given).__name__} cannot be written as {suffix}: {error}") from error
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:12]
    path = place / f"{what}-{digest}{suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    return str(path)
