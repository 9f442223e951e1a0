"""From a trained system to tables of links, in one call each."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from lightning.pytorch import Trainer
from torch import Tensor

from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.datasets.named_pairs import named_pairs, read_named_pairs
from mebns_pl.datasets.tables import Table, text_column
from mebns_pl.errors import DataError
from mebns_pl.pools.new_nodes import GivenPairs, with_new_nodes
from mebns_pl.pools.restriction import PredictionPairs
from mebns_pl.prediction.score_table import ScoreTable
from mebns_pl.prediction.writer import PredictionWriter
from mebns_pl.systems.evaluation import AbstractEvaluation
from mebns_pl.systems.scoring import AbstractScoring


@dataclass(frozen=True)
class NewNodes:
    """Nodes that training has not seen.

    Args:
        nodes: their table: the column ``node``, and the columns of features that the known nodes have.
        edges: their edges to known nodes or among themselves, columns ``source`` and ``target``; None for none.

    Example:
        >>> NewNodes("new_nodes.csv").edges is None
        True
    """

    nodes: str
    edges: str | None = None


def predict_links(
    system: AbstractEvaluation,
    data: LinkDataModule,
    top_k: int = 100,
    *,
    pairs: PredictionPairs | None = None,
    per_node: bool = False,
    max_per_node: int | None = None,
    explain: bool = False,
    scoring: AbstractScoring | None = None,
    trainer: Trainer | None = None,
) -> pd.DataFrame:
    """The missing links that a trained system finds most likely.

    Args:
        system: a trained system.
        data: its data module.
        top_k: how many links, 1 or more.
        pairs: which pairs are scored; None takes the data module's own choice.
        per_node: whether ``top_k`` links of each source node are wanted and not of all.
        max_per_node: in how many of the links a node may stand; None for no cap.
        explain: whether ``probability`` and ``why`` are told, too.
        scoring: the student alone by default.
        trainer: whose kind of device and precision are used; None takes Lightning's choice.

    Returns:
        Columns ``rank``, ``source``, ``target``, ``score``, ``logit``, see :class:`PredictionWriter`. What share of
        held-out edges the pool of pairs holds is in ``attrs["coverage"]``, and part by part in ``attrs["pool"]``; with
        ``explain``, ``attrs["reliability"]`` says how probabilities hold on test edges.

    Example:
        >>> from mebns_pl import LinkDataModule, Plain
        >>> data = LinkDataModule(graph="air_routes")
        >>> links = predict_links(Plain(data.spec), data, top_k=3)
        >>> list(links.columns), len(links), links.attrs["coverage"]
        (['rank', 'source', 'target', 'score', 'logit'], 3, 1.0)
    """
    writer = PredictionWriter(None, top_k, per_node, scoring, max_per_node, explain)
    _predict(system, data.predicting(pairs), writer, trainer)
    assert writer.table is not None
    assert writer.pool is not None
    report = writer.pool.report
    writer.table.attrs = {"coverage": report.coverage, "pool": report.table.to_dict("records")}
    if writer.reliability is not None:
        writer.table.attrs["reliability"] = writer.reliability.to_dict("records")
    return writer.table


def score_links(
    system: AbstractEvaluation,
    data: LinkDataModule,
    pairs: pd.DataFrame | str | Path,
    *,
    new: NewNodes | None = None,
    scoring: AbstractScoring | None = None,
    trainer: Trainer | None = None,
    ckpt_path: str | Path | None = None,
) -> pd.DataFrame:
    """Scores of given pairs, in their order.

    Args:
        system: a trained system.
        data: its data module.
        pairs: a table with columns ``source`` and ``target`` of names, or its path (CSV, TSV or Parquet).
        new: nodes that training has not seen, or None.
        scoring: the student alone by default.
        trainer: whose kind of device and precision are used; None takes Lightning's choice.
        ckpt_path: weights to load, or None.

    Returns:
        Columns ``source``, ``target``, ``score``, ``logit``, ``known``, ``new_node``, ``rejected``, see
        :class:`~mebns_pl.prediction.score_table.ScoreTable`.

    Raises:
        DataError: a broken file; names that no node has; new nodes that the student cannot score.

    Example:
        >>> from mebns_pl import LinkDataModule, Plain
        >>> data = LinkDataModule(graph="air_routes")
        >>> one, other = (data.loaded.node_names[i] for i in data.loaded.edges[:, 0].tolist())
        >>> score_links(Plain(data.spec), data, pd.DataFrame({"source": [one], "target": [other]}))["known"].tolist()
        [True]
    """
    graph, names = data.full_graph, data.loaded.node_names
    if new is not None:
        if not system.student.inductive:
            raise DataError(
                f"nodes: {type(system.student).__name__} cannot score nodes that training has not seen: "
                + (
                    "the graph has no node features, so the encoder learned an embedding of each training node"
                    if not data.spec.num_features
                    else "it learned something of each training node"
                )
                + "; train with a node table of features (data.nodes) and a GCN, SAGE or GAT encoder, or train "
                "StructureMLP or SEAL, which learn nothing of single nodes"
            )
        graph, names = with_new_nodes(data.loaded, graph, data.nodes, new.nodes, new.edges, data.columns)
    table = ScoreTable(scoring)
    given = GivenPairs(_numbered(pairs, names), graph, names, data.loaded.num_nodes)
    _predict(system, data.predicting(given=given), table, trainer, ckpt_path)
    assert table.table is not None
    return table.table


UNSEEN = "nodes that training has not seen come with a table of their features (--nodes; new=NewNodes(...))"


def _numbered(pairs: pd.DataFrame | str | Path, names: Sequence[str]) -> Tensor:
    if not isinstance(pairs, pd.DataFrame):
        return read_named_pairs(pairs, names, UNSEEN)
    table = Table(Path("pairs"), {str(name): text_column(map(str, pairs[name])) for name in pairs.columns})
    return named_pairs(table, names, UNSEEN)


def _predict(
    system: AbstractEvaluation,
    data: LinkDataModule,
    callback: PredictionWriter | ScoreTable,
    like: Trainer | None,
    ckpt_path: str | Path | None = None,
) -> None:
    """Predicts silently, with one callback, on one device of the kind that ``like`` has, with its precision."""
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    with warnings.catch_warnings():
        # What training's callbacks have in the checkpoint is not needed here
        warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")
        lightning.setLevel(logging.WARNING)
        try:
            Trainer(
                accelerator="auto" if like is None else like.strategy.root_device.type,
                devices=1,
                precision=None if like is None else like.precision,
                logger=False,
                callbacks=[callback],
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            ).predict(system, datamodule=data, return_predictions=False, ckpt_path=ckpt_path)
        finally:
            lightning.setLevel(level)
