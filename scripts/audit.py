"""Asks PyPI's list of advisories about every package of this environment; where it is out of reach, that is said.

    python scripts/audit.py

pip-audit lives in an environment of its own, so that it changes nothing here. The exit status is 1 where a package has
a known vulnerability, and 0 otherwise, also where nothing could be looked up.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

TOOL = "pip-audit==2.10.0"
FOLDER = Path("build/audit")


def installed() -> list[str]:
    """``name==version`` of all packages but this one, without a build's own suffix (``+cpu``)."""
    found = {item.name: item.version.partition("+")[0] for item in distributions()}
    return sorted(f"{name}=={version}" for name, version in found.items() if name != "mebns_pl")


def verdict(report: dict[str, Any]) -> tuple[list[str], int]:
    """What to tell of pip-audit's report, and the exit status.

    Args:
        report: its JSON.

    Example:
        >>> verdict({"dependencies": [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "no"}]})
        (['1 package looked up, without a known vulnerability', 'not found: b'], 0)
    """
    packages = report["dependencies"]
    skipped = [item["name"] for item in packages if "skip_reason" in item]
    bad = [(item, flaw) for item in packages for flaw in item.get("vulns", [])]
    if len(skipped) == len(packages):
        return ["PyPI's advisories cannot be reached from here: nothing was checked"], 0
    told = [
        f"{item['name']} {item['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for item, flaw in bad
    ]
    count = len(packages) - len(skipped)
    if not bad:
        told = [f"{count} package{'s' * (count != 1)} looked up, without a known vulnerability"]
    return [*told, *([f"not found: {', '.join(skipped)}"] if skipped else [])], int(bool(bad))


def audit() -> tuple[list[str], int]:
    """Runs pip-audit; what is to be told, and the exit status."""
    python = FOLDER / "bin" / "python"
    if not python.exists():
        venv.create(FOLDER, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL]
    if subprocess.run(install, capture_output=True, timeout=300, check=False).returncode:
        return [f"{TOOL} cannot be installed from here: nothing was checked"], 0
    packages, report = FOLDER / "packages.txt", FOLDER / "report.json"
    packages.write_text("\n".join(installed()))
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pip_audit", "-r", str(packages), "--no-deps", "--disable-pip"]
    command += ["--progress-spinner", "off", "--format", "json", "--output", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if not report.exists():
        reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return [f"pip-audit has not come to its end, so nothing was checked: {reason[:200]}"], 0
    return verdict(json.loads(report.read_text()))


def main() -> int:
    """Tells the verdict; returns 1 where there is a known vulnerability."""
    told, status = audit()
    print("\n".join(f"audit: {line}" for line in told))
    return status


if __name__ == "__main__":
    sys.exit(main())
