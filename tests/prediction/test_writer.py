"""The prediction writer against a sort of all pairs."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from mebns_pl import Plain, PredictionWriter
from mebns_pl.data.datamodule import LinkDataModule
from references.runs import fit, make_data, make_plain, make_trainer


def predict(data: LinkDataModule, system: Plain, path: Path, top_k: int) -> tuple[pd.DataFrame, PredictionWriter]:
    writer = PredictionWriter(str(path), top_k=top_k)
    make_trainer(callbacks=[writer]).predict(system, data, return_predictions=False)
    return pd.read_csv(path), writer


@pytest.mark.parametrize("block_pairs", [1, 100, 2**17])
@pytest.mark.parametrize("top_k", [1, 30, 10_000])
def test_it_writes_the_best_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top_k: int, block_pairs: int
) -> None:
    monkeypatch.setattr("mebns_pl.data.batches.EVAL_PAIRS", block_pairs)
    data = make_data()
    system = make_plain(data.spec)
    fit(system, data, epochs=2)
    table, writer = predict(data, system, tmp_path / "new" / "links.csv", top_k)

    known = {tuple(edge) for edge in data.loaded.edges.t().tolist()}
    score = system.student.scorer(data.full_graph)
    pairs = [(u, v) for u in range(41) for v in range(u + 1, 41) if (u, v) not in known]
    with torch.no_grad():
        logits = score(system.student.prepare(data.full_graph, torch.tensor(pairs).t())).tolist()
    best = sorted(zip(logits, pairs, strict=True), key=lambda item: (-item[0], item[1]))[:top_k]

    assert list(table.columns) == ["rank", "source", "target", "score", "logit"]
    assert table["rank"].tolist() == list(range(1, len(best) + 1))
    names = [f"node {i}" for i in range(41)]
    found = [(names.index(s), names.index(t)) for s, t in zip(table["source"], table["target"], strict=True)]
    assert found == [pair for _, pair in best]
    assert table["logit"].tolist() == pytest.approx([logit for logit, _ in best], abs=1e-5)
    assert table["score"].tolist() == pytest.approx([1 / (1 + math.exp(-logit)) for logit, _ in best], abs=1e-5)
    assert writer.table is not None
    assert len(writer.table) == len(table)


@pytest.mark.parametrize("block_pairs", [50, 2**17])
@pytest.mark.parametrize("top_k", [1, 7, 60])
def test_ties_are_broken_by_node_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_pairs: int, top_k: int
) -> None:
    monkeypatch.setattr("mebns_pl.data.batches.EVAL_PAIRS", block_pairs)
    data = make_data()
    system = make_plain(data.spec)

    def tied(pairs: Tensor) -> Tensor:
        return ((pairs[0] + pairs[1]) % 2).float()  # half of the pairs have 1, half 0

    monkeypatch.setattr(system, "_logits", tied)
    table, _ = predict(data, system, tmp_path / "links.csv", top_k)
    pairs = torch.cat(list(data.predict_dataloader()), dim=1).t().tolist()
    expected = sorted(pairs, key=lambda pair: (-((pair[0] + pair[1]) % 2), pair))[:top_k]
    assert [[int(s[5:]), int(t[5:])] for s, t in zip(table["source"], table["target"], strict=True)] == expected


def test_a_second_prediction_starts_anew(tmp_path: Path) -> None:
    data = make_data()
    writer = PredictionWriter(str(tmp_path / "links.csv"), top_k=20)
    tables = []
    for seed in (0, 1):
        make_trainer(callbacks=[writer]).predict(make_plain(data.spec, seed), data, return_predictions=False)
        tables.append(writer.table)
    fresh, _ = predict(data, make_plain(data.spec, 1), tmp_path / "fresh.csv", 20)
    pd.testing.assert_frame_equal(tables[1].drop(columns=["score", "logit"]), fresh.drop(columns=["score", "logit"]))
    assert not tables[0].equals(tables[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k: expected 1 or more, got 0"),
        ({"path": "links.txt"}, r"path: expected a file name that ends in \.csv, \.parquet, \.pq, got 'links\.txt'"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictionWriter(**options)
