"""The check for GPUs, on the CPU: that it passes what is right, and finds what is not."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

CHECK = runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "gpu_check.py"))
SETTING = CHECK["Setting"]("cpu", epochs=2, channels=8)


def test_equal_runs_pass_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHECK["equal"](SETTING, "64-true") == {"difference": 0.0}
    weights = iter([{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.0, 2.1])}])
    monkeypatch.setattr(CHECK["Setting"], "train", lambda *_, **__: next(weights))
    with pytest.raises(CHECK["FailedError"], match=r"weights differ by 5\.0e-02 of the largest"):
        CHECK["equal"](SETTING, "64-true")


def test_a_difference_that_is_no_number_is_the_largest() -> None:
    assert CHECK["difference"]({"w": torch.tensor([1.0, float("nan")])}, {"w": torch.ones(2)}) == float("inf")


def test_float16_is_refused_with_a_reason() -> None:
    assert "lose the updates" in CHECK["fp16"](SETTING)["told"]


def test_calls_that_wait_are_counted_within_the_step_alone() -> None:
    with torch.profiler.profile() as profile:
        float(torch.ones(3)[0])
        with torch.profiler.record_function(CHECK["STEP"]):
            torch.ones(3).nonzero()
        float(torch.ones(3)[1])
    profiled = CHECK["Profiled"](CHECK["WAITS"]["cpu"])
    profiled.count(profile.events())
    assert profiled.found == {"aten::nonzero": 1}


def test_a_check_that_fails_says_why_and_the_others_are_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(setting: Any) -> dict[str, Any]:
        raise CHECK["FailedError"]("the bits differ")

    def broken(setting: Any) -> dict[str, Any]:
        raise RuntimeError("no kernel image")

    for name, check in {"bf16 trains": failing, "fp16 is refused": broken, "cost": lambda _: {"gb": 0.5}}.items():
        monkeypatch.setitem(CHECK["CHECKS"], name, check)
    only = ["--only=bf16 trains", "--only=fp16 is refused", "--only=cost"]
    assert CHECK["main"](["--device=cpu", *only, f"--json={tmp_path}/check.json"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" (")[0] for line in lines[1:4]] == [
        "FAILED  bf16 trains: the bits differ",
        "FAILED  fp16 is refused: RuntimeError: no kernel image",
        "passed  cost: gb 0.5",
    ]
    assert json.loads(lines[-1]) == json.loads((tmp_path / "check.json").read_text())
    assert CHECK["main"](["--device=cpu", "--only=cost"]) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        CHECK["main"]([])
    assert "no GPU that torch can use; --device cpu" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["equal in float32", "bf16 trains", "deterministic repeats", "ranks", "cost"])
def test_checks_pass_on_the_cpu(name: str) -> None:
    assert CHECK["CHECKS"][name](CHECK["Setting"]("cpu"))
