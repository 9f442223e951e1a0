"""The short forms of the campaigns in ``scripts/campaigns`` that kill runs, start many, fill disks and damage files."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest
import torch

from references.processes import output_of

REPOSITORY = Path(__file__).resolve().parent.parent
CAMPAIGNS = REPOSITORY / "scripts" / "campaigns"


def run(name: str, options: list[str]) -> None:
    """In a process of its own: it forks, and changes what all of a process see."""
    os.environ |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    sys.path.insert(0, str(CAMPAIGNS))
    torch.set_num_threads(1)
    assert runpy.run_path(str(CAMPAIGNS / f"{name}.py"))["main"](options) == 0


def campaign(name: str, folder: Path, *options: str) -> str:
    return output_of(run, name, ["--folder", str(folder), *options], into=folder.with_suffix(".txt"))


@pytest.mark.slow
def test_killed_runs_resume_to_the_last_bit(tmp_path: Path) -> None:
    shown = campaign("kills", tmp_path / "campaign", "--kills", "1", "--epochs", "2")
    assert "kills: 1 tried, 1 right, 0 wrong" in shown


def test_flipped_bits_are_refused_told_or_without_effect(tmp_path: Path) -> None:
    """Of checkpoints and compiled functions, which take longer to make, see below and ``test_kernels``."""
    kinds = ("npz", "stored npz", "pt", "mat", "csv.gz", "negatives", "config")
    options = ["--flips", "10", *(f"--only={kind}" for kind in kinds)]
    shown = output_of(run, "flips", options, into=tmp_path / "shown.txt")
    for kind in kinds:
        assert f"{kind}: 10 tried, 10 right" in shown


@pytest.mark.slow
def test_more_kills_and_new_interpreters(tmp_path: Path) -> None:
    assert "5 tried, 5 right" in campaign("kills", tmp_path / "campaign", "--kills", "5", "--seed", "1")
    # Taken up where it was stopped
    assert "6 tried, 6 right" in campaign("kills", tmp_path / "campaign", "--kills", "6", "--seed", "1")
    assert "1 tried, 1 right" in campaign("kills", tmp_path / "fresh", "--kills", "1", "--epochs", "2", "--fresh")


@pytest.mark.slow
def test_parallel_starts(tmp_path: Path) -> None:
    """All of it but the training: ``test_run_folder``."""
    assert "starts: 4 tried, 4 right, 0 wrong" in campaign("starts", tmp_path / "campaign", "--starts", "4")


@pytest.mark.slow
def test_full_disks(tmp_path: Path) -> None:
    """In one process: ``test_lost_logs``."""
    shown = campaign("full_disk", tmp_path / "campaign", "--trials", "3", "--epochs", "2")
    assert "full disks: 3 tried, 3 right, 0 wrong" in shown


@pytest.mark.slow
def test_flipped_bits_of_every_kind(tmp_path: Path) -> None:
    shown = output_of(run, "flips", ["--flips", "100", "--seed", "1"], into=tmp_path / "shown.txt")
    assert shown.count("100 tried, 100 right") == 9


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_rank_faults(tmp_path: Path) -> None:
    """A killed rank; what each kind of fault is told by, in one process: ``tests/distributed``."""
    assert "rank faults: 1 tried, 1 right, 0 wrong" in campaign("ranks", tmp_path / "ranks", "--faults", "1")
