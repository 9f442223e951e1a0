"""Runs killed by SIGKILL and resumed from the command line: the short form of ``scripts/kill_campaign.py``."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest
import torch

from references.processes import output_of

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = REPOSITORY / "scripts" / "kill_campaign.py"


def run(options: list[str]) -> None:
    """In a process of its own: it forks."""
    os.environ |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    assert runpy.run_path(str(SCRIPT))["main"](options) == 0


def campaign(folder: Path, *options: str) -> str:
    return output_of(run, ["--folder", str(folder), *options], into=folder.with_suffix(".txt"))


def test_killed_runs_resume_to_the_last_bit(tmp_path: Path) -> None:
    shown = campaign(tmp_path / "campaign", "--kills", "1", "--epochs", "2")
    assert "1 of 1 resumed runs are bit-identical" in shown


@pytest.mark.slow
def test_more_of_them_and_new_interpreters(tmp_path: Path) -> None:
    assert "5 of 5 resumed" in campaign(tmp_path / "campaign", "--kills", "5", "--seed", "1")
    # Taken up where it was stopped
    assert "6 of 6 resumed" in campaign(tmp_path / "campaign", "--kills", "6", "--seed", "1")
    assert "1 of 1 resumed" in campaign(tmp_path / "fresh", "--kills", "1", "--epochs", "2", "--fresh")
