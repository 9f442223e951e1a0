"""Embedding tables parted among ranks: the numbers of whole ones, on any number of ranks and from one to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor

from mebns_pl import LastCheckpoint, NeighborSampling, Updates
from mebns_pl.distributed.group import SingleProcess
from mebns_pl.distributed.row_shards import RowShards
from mebns_pl.models.layers import parted_of, place_tables, tables_of
from mebns_pl.systems.checkpoint_io import CheckpointError
from references import ranks as reference
from references.runs import MAKE, fit, weights

gloo = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")


def whole_run(epochs: int) -> dict[str, dict[str, Tensor]]:
    """The same systems with the same first values, and tables that every rank holds: the twin."""
    found = {}
    for kind in MAKE:
        data = reference.parted_data()
        begun = reference.parted_system(kind, data.spec)
        place_tables(begun, SingleProcess())
        system = reference.parted_system(kind, data.spec, NeighborSampling(fan_out=3, num_hops=2))
        system.load_state_dict(begun.state_dict())
        fit(system, data, epochs)
        found[kind] = weights(system)
    return found


def put_together(theirs: list[dict[str, Any]], kind: str) -> dict[str, Tensor]:
    """Tables of the ranks' rows, and what they share, which must be the same on all."""
    first = theirs[0][kind]
    whole = {}
    for name, value in first["weights"].items():
        if name in first["parted"]:
            whole[name] = torch.cat([found[kind]["weights"][name] for found in theirs])
        else:
            assert all(torch.equal(found[kind]["weights"][name], value) for found in theirs), name
            whole[name] = value
    return whole


def check_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)


@gloo
def test_tables_on_two_ranks_are_those_of_one(tmp_path: Path) -> None:
    found = reference.on_ranks(tmp_path, [(2, "parted")])[2, "parted"]
    one = reference.parted_run(1, tmp_path / "one")
    for kind, expected in whole_run(1).items():
        check_equal(put_together([one], kind), expected)
        check_equal(put_together(found, kind), expected)
        assert all(rank[kind]["metrics"] == pytest.approx(one[kind]["metrics"]) for rank in found)
        assert one[kind]["links"]
        assert one[kind]["counts"].any()
        torch.testing.assert_close(found[0][kind]["counts"], one[kind]["counts"])
        assert all(rank[kind]["links"] == pytest.approx(one[kind]["links"]) for rank in found)
        tables = found[0][kind]["parted"]
        assert len(tables) == {"Plain": 1, "MeBNS": 2}[kind]
        assert [len(rank[kind]["weights"][tables[0]]) for rank in found] == [21, 20]
    # On another number of ranks, or on one, the run goes on as it would have
    again = reference.parted_run(1, tmp_path / "again", 2, tmp_path / "parted-2")
    for kind, expected in whole_run(2).items():
        check_equal(put_together([again], kind), expected)
    names = [path.name.partition(".tables")[0] for path in (tmp_path / "parted-2" / "Plain").iterdir()]
    assert names == ["last.ckpt"] * 2  # with one folder: those of before have gone


@gloo
@pytest.mark.slow
def test_tables_on_four_ranks_and_from_two_to_four(tmp_path: Path) -> None:
    found = reference.on_ranks(tmp_path, [(2, "parted"), (4, "parted"), (4, "resumed")])
    for run, epochs in (("parted", 1), ("resumed", 2)):
        for kind, expected in whole_run(epochs).items():
            check_equal(put_together(found[4, run], kind), expected)


def test_first_values_do_not_depend_on_the_number_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mebns_pl.distributed.row_shards._START_ROWS", 4)
    whole = RowShards(11).begin(3, std=0.5, seed=2**62 - 1)
    for size in (2, 3, 4, 13):
        parts = [RowShards(11, rank, size).begin(3, std=0.5, seed=2**62 - 1) for rank in range(size)]
        assert torch.equal(torch.cat(parts), whole)
    assert len(whole.unique()) == 33
    assert not torch.equal(RowShards(11).begin(3, std=0.5, seed=7), whole)


def test_what_does_not_go_with_parted_tables_is_refused(tmp_path: Path) -> None:
    data = reference.parted_data()
    system = MAKE["Plain"](data.spec, batching=reference.PARTED, updates=Updates(accumulate=2))
    assert [len(table) for table in tables_of(system.student)] == [0]
    with pytest.raises(ValueError, match=r"updates\.accumulate: got 2; with batching\.shard_tables it is 1"):
        fit(system, data, 1)
    system = reference.parted_system("Plain", data.spec)
    with pytest.raises(ValueError, match="used once a trainer has placed them"):
        system.student.scorer(data.train_steps(system.needs)[0, 0].inputs.graph)  # type: ignore[union-attr]
    fit(system, data, 1, [LastCheckpoint(tmp_path)], enable_checkpointing=True)
    with pytest.raises(CheckpointError, match="a trainer loads it"):
        type(system).load_from_checkpoint(
            tmp_path / "last.ckpt", spec=data.spec, predictor=reference.PARTED_PREDICTOR, batching=reference.PARTED
        )
    (folder,) = tmp_path.glob("last.ckpt.tables.*")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="the folder of its tables, .* is not beside it"):
        fit(reference.parted_system("Plain", data.spec), data, 2, ckpt_path=str(tmp_path / "last.ckpt"))
    assert parted_of(system)
