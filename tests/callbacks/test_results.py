"""The tables of results and of predicted links."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from rich.table import Table

from mebns_pl import ResultTable
from mebns_pl.terminal import link_table, metric_table
from references.runs import make_data, make_plain, make_trainer


def text_of(table: Table) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def table_of(table: Table) -> list[list[str]]:
    return [cells(line) for line in text_of(table).splitlines() if cells(line)]


def test_metrics_are_shown_in_percent_in_the_order_asked_for() -> None:
    rows = {
        "one": {"mrr": 0.12345, "hits@10": 1.0, "auc": 0.5, "ap": 0.9},
        "other": {"hits@10": 0, "mrr": 0.2, "auc": 1},
    }
    assert table_of(metric_table(rows, ["auc", "mrr", "hits@10"])) == [
        ["", "AUC", "MRR", "Hits@10"],
        ["one", "50.00", "12.35", "100.00"],
        ["other", "100.00", "20.00", "0.00"],
    ]


def test_links() -> None:
    links = pd.DataFrame({"rank": [1, 2], "source": ["a", "b"], "target": ["c", "d"], "score": [0.98765, 0.5]})
    assert table_of(link_table(links)) == [
        ["rank", "source", "target", "score"],
        ["1", "a", "c", "0.988"],
        ["2", "b", "d", "0.500"],
    ]


@pytest.mark.parametrize("logged", [False, True])
def test_a_test_ends_with_its_table(capsys: pytest.CaptureFixture[str], tmp_path, logged: bool) -> None:
    data = make_data()
    logger = CSVLogger(tmp_path) if logged else False
    trainer = make_trainer(callbacks=[ResultTable()], logger=logger, default_root_dir=tmp_path)
    (metrics,) = trainer.test(make_plain(data.spec), data, verbose=False)
    shown = capsys.readouterr().out
    assert "Test of Plain on communities, in %" in shown
    rows = {row[0].lower(): row[-1] for line in shown.splitlines() if (row := cells(line))}
    for name in ("mrr", "hits@1", "hits@3", "hits@10", "hits@20", "hits@50", "hits@100", "auc", "ap"):
        assert rows[name] == f"{100 * metrics[f'test/{name}']:.2f}"
    assert ("tensorboard --logdir" in shown) is logged
