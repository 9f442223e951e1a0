"""Whole runs on several ranks: weights, metrics, logs and predictions of one process; and ranks that drift apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import torch.distributed
from torch import Tensor

from mebns_pl.errors import DataError
from references import ranks as reference
from references.runs import make_data

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch was built without gloo",
)


def check_equal(folder: Path, alone: dict[str, Any], theirs: list[dict[str, Any]]) -> None:
    size = len(theirs)
    for found in theirs:
        assert found["steps"] == alone["steps"]
        assert found["weights"].keys() == alone["weights"].keys()
        for name, value in alone["weights"].items():
            assert torch.equal(found["weights"][name], theirs[0]["weights"][name]), name
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-9, atol=1e-9, msg=name)
        assert torch.equal(found["meta"]["pairs"], alone["meta"]["pairs"])
        assert found["metrics"].keys() == alone["metrics"].keys()
        for name, number in alone["metrics"].items():
            # Counted and ranked, or means of the union batch: the same on every rank
            assert found["metrics"][name] == pytest.approx(number, rel=1e-6), name
            if name.startswith(("val/", "test/")):
                assert found["metrics"][name] == number, name
    one, many = (json.loads((folder / f"whole-{ranks}" / "metrics.json").read_text()) for ranks in (1, size))
    for part in (one["test"], many["test"], one["fit"], many["fit"]):
        assert part.pop("seconds") > 0
    assert one["test"] == many["test"]  # the intervals, too: of edges in the same order
    assert one["card"] == many["card"]
    assert one["fit"]["val"] == many["fit"]["val"]
    assert one["fit"]["curves"]["train/loss"] == pytest.approx(many["fit"]["curves"]["train/loss"], rel=1e-6)
    one, many = (pd.read_csv(folder / f"whole-{ranks}" / "links.csv") for ranks in (1, size))
    assert len(one) == 30
    pd.testing.assert_frame_equal(one, many)


def check_parts(alone: dict[str, dict[str, Tensor]], theirs: list[dict[str, dict[str, Tensor]]]) -> None:
    """Each plug-in's weights are those of one process."""
    for found in theirs:
        assert found.keys() == alone.keys()
        for part, expected in alone.items():
            for name, value in expected.items():
                torch.testing.assert_close(found[part][name], value, rtol=1e-8, atol=1e-8, msg=f"{part}: {name}")


def run_alone(folder: Path) -> dict[str, Any]:
    (folder / "whole-1").mkdir()
    return reference.whole_run(1, folder / "whole-1")


def test_two_ranks_equal_one_process_and_a_difference_is_found(tmp_path: Path) -> None:
    """Teacher, student and weight net, with two batches an update; every metric and log; the predictions' file."""
    found = reference.on_ranks(tmp_path, [(2, "whole"), (2, "corrupted"), (2, "parts")])
    alone = run_alone(tmp_path)
    assert alone["steps"] == 3 * 2  # of an epoch's three batches two make an update, and the last one by itself
    expected = {"train/meta_loss", "filter/kept_share", "filter/hardness", "weights/unevenness", "weights/top_tenth",
                "migration/picked_turned_easy", "val/mrr", "val/auc", "test/mrr", "test/ap", "meta/kept"}  # fmt: skip
    assert expected <= alone["metrics"].keys()
    check_equal(tmp_path, alone, found[2, "whole"])
    check_parts(reference.run_of_parts(1, tmp_path), found[2, "parts"])
    for theirs in found[2, "corrupted"]:
        assert theirs["epoch"] == 1
        assert theirs["error"].startswith("replicas: 1 of "), theirs["error"]
        assert "weight_net.hidden.bias, exp_avg_sq of its optimizer (rank 1)" in theirs["error"]


@pytest.mark.slow
def test_three_ranks_equal_one_process(tmp_path: Path) -> None:
    found = reference.on_ranks(tmp_path, [(3, "whole"), (3, "corrupted")])
    check_equal(tmp_path, run_alone(tmp_path), found[3, "whole"])
    assert all("(rank 2)" in theirs["error"] for theirs in found[3, "corrupted"])


def test_more_ranks_than_held_out_edges_are_refused_on_every_rank() -> None:
    """A rank without evaluation batches would leave the others waiting."""
    for rank in range(3):
        data = make_data()
        data.split = replace(data.split, val=data.split.val[:, :2])
        data.trainer = SimpleNamespace(global_rank=rank, world_size=3)  # type: ignore[assignment]
        with pytest.raises(DataError, match=r"split\.val: 2 edges cannot be parted among 3 ranks"):
            data.val_dataloader()
