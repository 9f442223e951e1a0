"""What the audit of the installed packages tells."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

AUDIT = runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "audit.py"))


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [], **more}


def test_verdicts() -> None:
    flaw = {"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}
    verdict = AUDIT["verdict"]
    assert verdict({"dependencies": [package("a"), package("b")]}) == (
        ["2 packages looked up, without a known vulnerability"],
        0,
    )
    told, status = verdict({"dependencies": [package("a", vulns=[flaw]), package("b", skip_reason="not found")]})
    assert (told, status) == (["a 1.0: PYSEC-1, mended in 1.1, 2.0", "not found: b"], 1)
    told, status = verdict({"dependencies": [package("a", skip_reason="not found")]})
    assert (told, status) == (["PyPI's advisories cannot be reached from here: nothing was checked"], 0)


def test_packages_are_named_without_a_builds_suffix() -> None:
    found = AUDIT["installed"]()
    assert any(line.startswith("torch==") for line in found)
    assert not any("+" in line or line.startswith("mebns") for line in found)


def test_without_an_index_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build/audit/bin").mkdir(parents=True)
    (tmp_path / "build/audit/bin/python").touch()
    monkeypatch.setattr(AUDIT["subprocess"], "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr=""))
    told, status = AUDIT["audit"]()
    assert told == [f"{AUDIT['TOOL']} cannot be installed from here: nothing was checked"]
    assert status == 0
