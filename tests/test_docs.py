"""The documentation says what the code does: options and defaults, messages, links."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import inspect
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mebns_pl

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
RECIPES = sorted((ROOT / "configs").rglob("*.yaml"))
SOURCE = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "mebns_pl").rglob("*.py")))

# --- the configuration reference against the signatures that the command line is made from ---


def all_classes() -> dict[str, type]:
    """Every class of the package, by its name."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(mebns_pl.__path__, "mebns_pl."):
        if not module.name.endswith("__main__"):
            for name, item in vars(importlib.import_module(module.name)).items():
                if inspect.isclass(item) and item.__module__ == module.name:
                    found[name] = item
    return found


CLASSES = all_classes()


def documented() -> dict[str, dict[str, str]]:
    """Of every class that configuration.md has a table of: its arguments with their defaults, as written there."""
    found: dict[str, dict[str, str]] = {}
    owners: list[str] = []
    heading, place = "", 0
    for line in (DOCS / "configuration.md").read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line.rpartition(" ")[2]  # of "`model`: Plain and MeBNS" it is MeBNS, which has all
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells:
            place = 0
        elif "default" in cells:
            place = cells.index("default")
            owners = [cells[0] if cells[0] in CLASSES else heading] if place == 1 else []
        elif place and set(cells[0]) != {"-"}:
            named = re.findall(r"`(\w+)`", cells[place - 2]) if place > 1 else []
            owners = named or owners
            options = re.findall(r"`(\w+)`", cells[place - 1])
            values = re.findall(r"`([^`]+)`", cells[place]) or [cells[place]]
            for owner in owners:
                if owner in CLASSES:
                    found.setdefault(owner, {}).update(dict(zip(options, values, strict=True)) if options else {})
    return found


DOCUMENTED = documented()


def test_the_reference_has_the_classes_of_every_stage() -> None:
    assert len(DOCUMENTED) > 20
    assert {"LinkDataModule", "SplitFractions", "MeBNS", "Schedule", "GCN", "DegreeProposal", "UMDCollector"} <= set(
        DOCUMENTED
    )


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_options_and_defaults_are_those_of_the_class(name: str) -> None:
    parameters = inspect.signature(CLASSES[name]).parameters
    told = DOCUMENTED[name]
    assert set(told) - {"spec"} == {option for option in parameters if option not in ("spec", "in_channels")}
    for option, default in told.items():
        if option == "spec":
            continue
        assert default in defaults(parameters[option].default), f"{name}.{option}: {default}"


def defaults(value: Any) -> set[str]:
    """How a default may be written: as it is, or by the name of the class that stands behind it."""
    if value is inspect.Parameter.empty:
        return {"required"}
    if isinstance(value, tuple):
        return {f"[{', '.join(map(str, value))}]", str(value)}
    if value is dataclasses._HAS_DEFAULT_FACTORY:  # made anew for each: told by its class
        return set(CLASSES)
    words = {str(value), str(value).lower(), repr(value), type(value).__name__, getattr(value, "__name__", "")}
    return words | set(CLASSES) if value is None or callable(value) else words


def arguments(*names: str) -> set[str]:
    """What the classes of these names are made with."""
    return {argument for name in names for argument in inspect.signature(CLASSES[name]).parameters}


OPTIONS = {
    "data": {*arguments("LinkDataModule"), *dir(CLASSES["LinkDataModule"]), "batchsize"},
    "model": {*arguments("Plain", "MeBNS", "Heuristic"), "help", "student"},
}
"""What `data.` and `model.` may begin; "batchsize" is misspelt on purpose, "student" is a part of a checkpoint."""


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES, *RECIPES], ids=lambda path: path.name)
def test_options_that_are_named_in_passing_are_there(page: Path) -> None:
    for owner, option in re.findall(r"(?<![\w.])(data|model)\.(?:init_args\.)?(\w+)", page.read_text("utf-8")):
        assert option in OPTIONS[owner], f"{owner}.{option}"


# --- troubleshooting against the code ---


def quoted_messages() -> list[str]:
    """What troubleshooting.md quotes in bold code."""
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    return [
        message
        for line in re.findall(r"^\*\*(`.*?`.*?)\*\*", text, flags=re.M)
        for message in re.findall(r"`(.+?)`", line)
    ]


FOREIGN = ("Linked ", "Automatic gradient clipping", "size mismatch for", "unrecognized arguments")
"""Messages of Lightning, jsonargparse and torch."""
SYSTEM = ("invalid start byte", "No space left on device")
"""What Python and the operating system say within our messages."""


@pytest.mark.parametrize("message", [m for m in quoted_messages() if not m.startswith(FOREIGN)])
def test_messages_are_those_of_the_code(message: str) -> None:
    """Some part of each, of two words or more, stands in a string of the package, and no part is missing from it."""
    pieces = [piece.strip(" ;,:()'") for piece in re.split(r"…|\.\.\.|\[|\]|'[^']*'|\d+|None|: |; |, |=", message)]
    pieces = [piece for piece in pieces if piece not in SYSTEM and not piece.startswith("got ")]
    pieces = [piece for piece in pieces if len(piece.split()) > 1] or [piece for piece in pieces if "." in piece]
    assert pieces, message
    source = re.sub(r'"\s*\n\s*f?"', "", SOURCE)
    plain = re.sub(r"\{[^{}]*\}", "\0", source)
    for piece in pieces:
        words = piece.split()
        halves = (" ".join(words[i : i + 2]) for i in range(len(words) - 1))
        assert piece in plain or any(half in plain for half in halves), f"{piece!r} of {message!r}"


def test_there_are_messages() -> None:
    assert len(quoted_messages()) > 15


# --- links and code ---


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        path = page if not name else page.parent / name
        assert path.exists(), f"{page.name}: {target}"
        if anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), flags=re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_every_page_is_in_the_navigation() -> None:
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text("utf-8"), flags=re.S)
    entries = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    for page in PAGES:
        if page.name != "index.md":
            assert sum(fnmatch.fnmatch(page.stem, entry) for entry in entries) == 1, page.name


def test_classes_that_pages_link_to_are_there() -> None:
    for page in PAGES:
        for path in re.findall(r"\{py:class\}`~([\w.]+)`", page.read_text("utf-8")):
            module, _, name = path.rpartition(".")
            assert inspect.isclass(getattr(importlib.import_module(module), name)), f"{page.name}: {path}"


def test_the_quick_start_has_the_readmes_example() -> None:
    """The README's is run by a test of its own."""
    example = r"```python\n(.*?)```"
    (quick,) = re.findall(example, (DOCS / "quick_start.md").read_text("utf-8"), flags=re.S)
    lines = {line.partition("  #")[0].strip() for line in quick.splitlines() if "import" not in line}
    (readme,) = re.findall(example, (ROOT / "README.md").read_text("utf-8"), flags=re.S)
    assert lines <= {line.partition("  #")[0].strip() for line in readme.splitlines()}


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-q",
        "-W",
        "--keep-going",
        str(DOCS),
        str(tmp_path / "site"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "site" / "api" / "data.html").exists()


# --- tables of runs ---


def test_commands_that_make_the_tables_find_their_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An arm that a committed table lacks is refused by the command; tables themselves are not computed here."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(ROOT)
    options = importlib.import_module("quality").options
    commands = {
        line.split("#")[0].removeprefix("python benchmarks/quality.py")
        for page in PAGES
        for line in page.read_text("utf-8").splitlines()
        if line.startswith("python benchmarks/quality.py")
    }
    assert len(commands) > 8
    for command in commands:
        given, runs, axis = options(shlex.split(command))
        assert (runs[axis] == given.reference).any()
