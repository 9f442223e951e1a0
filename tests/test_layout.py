"""The rules of the source tree, checked on its syntax: which part may import which, and what no module may do."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import scipy.sparse
import scipy.sparse.csgraph

PACKAGE = Path(__file__).resolve().parent.parent / "mebns_pl"

# A part imports from its own level and from those before it, never from a later one.
LEVELS = (
    {
        "types",
        "keys",
        "allocator",
        "config_files",
        "errors",
        "escaping",
        "checks",
        "families",
        "files",
        "kernels",
        "metrics_json",
        "progress",
        "shares",
    },
    {"graph"},
    {"distributed", "metrics", "negatives", "datasets"},
    {"models", "evaluation", "pools", "bounded_yaml"},
    {"terminal", "data"},
    {"mebns"},
    {"systems"},
    {"analysis"},
    {"prediction", "callbacks"},
    {"study"},
    {"report"},
    {"explore"},
    {"cli", "__main__"},
    {"__init__"},
)
IMPORTS_HIGHER = "mebns_pl.mebns.bilevel"
ABSTRACT_BY_ANOTHER_NAME = {"LinkPredictor"}

Rule = Callable[[str, ast.Module], Iterator[str]]


@functools.cache
def modules() -> dict[str, ast.Module]:
    """The syntax tree of every module, by its dotted name; a package stands under ``package.__init__``."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): ast.parse(path.read_text("utf-8"), str(path))
        for path in paths
    }


def imported(name: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, at any depth, relative imports resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def level(part: str) -> int | None:
    return next((number for number, parts in enumerate(LEVELS) if part in parts), None)


def imports_point_down(name: str, tree: ast.Module) -> Iterator[str]:
    part = name.split(".")[1]
    if level(part) is None:
        yield f"'{part}' has no level yet: give it one in LEVELS"
        return
    for line, target in imported(name, tree):
        parts = target.split(".")
        if parts[0] != PACKAGE.name:
            continue
        # `import mebns_pl` and `from mebns_pl import SomeName` need the whole package
        other = parts[1] if len(parts) > 1 and level(parts[1]) is not None else "__init__"
        if level(other) > level(part):
            yield f"line {line}: {part} must not import {target}"


def no_hidden_imports(name: str, tree: ast.Module) -> Iterator[str]:
    for line, target in imported(name, tree):
        if target.endswith(".TYPE_CHECKING"):
            yield f"line {line}: TYPE_CHECKING hides an import"


def only_bilevel_imports_higher(name: str, tree: ast.Module) -> Iterator[str]:
    if name != IMPORTS_HIGHER:
        for line, target in imported(name, tree):
            if target.split(".")[0] == "higher":
                yield f"line {line}: only {IMPORTS_HIGHER} imports higher"


def no_print(name: str, tree: ast.Module) -> Iterator[str]:
    yield from (f"line {line}: print()" for line in calls_of("print", tree))


def no_eval(name: str, tree: ast.Module) -> Iterator[str]:
    for builtin in ("eval", "exec"):
        yield from (f"line {line}: {builtin}()" for line in calls_of(builtin, tree))


def no_bare_except(name: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno}: bare except"


def abstract_classes_say_so(name: str, tree: ast.Module) -> Iterator[str]:
    for node in classes(tree):
        named_so = node.name.lstrip("_").startswith("Abstract") or node.name in ABSTRACT_BY_ANOTHER_NAME
        if is_abstract(node) and not named_so:
            yield f"line {node.lineno}: abstract class {node.name} must be named Abstract..."


def public_classes_are_documented(name: str, tree: ast.Module) -> Iterator[str]:
    for node in classes(tree):
        if not node.name.startswith("_") and not ast.get_docstring(node):
            yield f"line {node.lineno}: class {node.name} has no docstring"


def calls_of(builtin: str, tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == builtin:
            yield node.lineno


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def last_name(node: ast.expr) -> str:
    """``abc.ABC`` and ``ABC`` are both ABC; ``Protocol[T]`` is Protocol."""
    node = node.value if isinstance(node, ast.Subscript) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_abstract(node: ast.ClassDef) -> bool:
    bases = {last_name(base) for base in node.bases}
    if "Protocol" in bases:
        return False
    metaclass = {last_name(keyword.value) for keyword in node.keywords if keyword.arg == "metaclass"}
    methods = (item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))
    decorators = {last_name(decorator) for method in methods for decorator in method.decorator_list}
    return "ABC" in bases or "ABCMeta" in metaclass or "abstractmethod" in decorators


RULES: tuple[Rule, ...] = (
    imports_point_down,
    no_hidden_imports,
    only_bilevel_imports_higher,
    no_print,
    no_eval,
    no_bare_except,
    abstract_classes_say_so,
    public_classes_are_documented,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_package_keeps(rule: Rule) -> None:
    found = modules()
    assert len(found) > 10, f"found only {sorted(found)} under {PACKAGE}"
    broken = [f"{name}: {message}" for name, tree in found.items() for message in rule(name, tree)]
    assert not broken, "\n" + "\n".join(broken)


def circles(found: dict[str, ast.Module]) -> list[list[str]]:
    """Modules that import each other at any distance, imports within functions included."""
    targets = {
        name: {part for _, target in imported(name, tree) for part in (target, target.rpartition(".")[0])}
        & found.keys()
        for name, tree in found.items()
    }
    graph = scipy.sparse.csr_array([[two in targets[one] for two in found] for one in found], dtype=int)
    count, labels = scipy.sparse.csgraph.connected_components(graph, connection="strong")
    groups = [[name for name, label in zip(found, labels, strict=True) if label == group] for group in range(count)]
    return [group for group in groups if len(group) > 1]


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(modules()) == []


def test_a_circle_is_found() -> None:
    sources = {
        "mebns_pl.a": "import mebns_pl.b",
        "mebns_pl.b": "def f():\n    from mebns_pl.c import g",
        "mebns_pl.d": "",
    }
    sources["mebns_pl.c"] = "from mebns_pl import a"
    found = circles({name: ast.parse(source) for name, source in sources.items()})
    assert found == [["mebns_pl.a", "mebns_pl.b", "mebns_pl.c"]]


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (imports_point_down, "mebns_pl.types", "import mebns_pl.graph.csr"),
        (imports_point_down, "mebns_pl.graph.csr", "from mebns_pl.datasets.split import split_edges"),
        (imports_point_down, "mebns_pl.graph.csr", "from mebns_pl import data"),
        (imports_point_down, "mebns_pl.graph.csr", "from mebns_pl import Key"),
        (imports_point_down, "mebns_pl.models.seal", "def f():\n    from ..systems import plain"),
        (imports_point_down, "mebns_pl.models.seal", "from mebns_pl.data import split"),
        (imports_point_down, "mebns_pl.systems.plain", "import mebns_pl.cli.main"),
        (imports_point_down, "mebns_pl.unheard_of", ""),
        (no_hidden_imports, "mebns_pl.keys", "from typing import TYPE_CHECKING"),
        (only_bilevel_imports_higher, "mebns_pl.mebns.step", "import higher"),
        (only_bilevel_imports_higher, "mebns_pl.mebns.step", "from higher.optim import DifferentiableAdam"),
        (no_print, "mebns_pl.keys", "print(1)"),
        (no_eval, "mebns_pl.cli.main", "eval('1')"),
        (no_bare_except, "mebns_pl.keys", "try:\n    pass\nexcept:\n    pass"),
        (abstract_classes_say_so, "mebns_pl.keys", "class Sampler(abc.ABC): ..."),
        (abstract_classes_say_so, "mebns_pl.keys", "class S:\n    @abstractmethod\n    def f(self): ..."),
        (public_classes_are_documented, "mebns_pl.keys", "class Sampler: ..."),
    ],
)
def test_rule_finds_a_breach(rule: Rule, name: str, source: str) -> None:
    assert list(rule(name, ast.parse(source)))


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (imports_point_down, "mebns_pl.data.datamodule", "from mebns_pl.negatives.proposals.uniform import Uniform"),
        (imports_point_down, "mebns_pl.graph.known_edges", "from . import csr\nfrom ..keys import Key\nimport torch"),
        (imports_point_down, "mebns_pl.graph.__init__", "from .csr import Graph"),
        (imports_point_down, "mebns_pl.mebns.step", "from mebns_pl import keys"),
        (only_bilevel_imports_higher, "mebns_pl.mebns.bilevel", "import higher"),
        (no_print, "mebns_pl.cli.commands", "console.print(1)"),
        (no_eval, "mebns_pl.models.seal", "model.eval()"),
        (abstract_classes_say_so, "mebns_pl.keys", "class Inputs(Protocol[T]):\n    def f(self): ..."),
        (abstract_classes_say_so, "mebns_pl.keys", "class AbstractSampler(ABC): ..."),
        (public_classes_are_documented, "mebns_pl.keys", "class _Private: ..."),
    ],
)
def test_rule_lets_pass(rule: Rule, name: str, source: str) -> None:
    assert not list(rule(name, ast.parse(source)))
