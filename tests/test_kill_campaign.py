"""Runs killed by SIGKILL and resumed from the command line: the short form of ``scripts/kill_campaign.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = REPOSITORY / "scripts" / "kill_campaign.py"


def campaign(folder: Path, *options: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), "--folder", str(folder), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_killed_runs_resume_to_the_last_bit(tmp_path: Path) -> None:
    shown = campaign(tmp_path / "campaign", "--kills", "2", "--epochs", "2")
    assert "2 of 2 resumed runs are bit-identical" in shown


@pytest.mark.slow
def test_more_of_them_and_new_interpreters(tmp_path: Path) -> None:
    assert "5 of 5 resumed" in campaign(tmp_path / "campaign", "--kills", "5", "--seed", "1")
    # Taken up where it was stopped
    assert "6 of 6 resumed" in campaign(tmp_path / "campaign", "--kills", "6", "--seed", "1")
    assert "1 of 1 resumed" in campaign(tmp_path / "fresh", "--kills", "1", "--epochs", "2", "--fresh")
