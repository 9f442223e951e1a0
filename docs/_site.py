"""What the site needs besides Sphinx's own: API pages written from the package's layout, and formulas as MathML."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

PACKAGE = Path(__file__).resolve().parent.parent / "mebns_pl"
TITLES = {
    "data": "Data",
    "datasets": "Graphs by name, and of one's own",
    "negatives": "Negatives",
    "models": "Predictors",
    "mebns": "MeBNS, the mathematics",
    "systems": "Systems",
    "evaluation": "Evaluation and protocols",
    "metrics": "Metrics",
    "pools": "Pools of pairs",
    "prediction": "Prediction",
    "analysis": "Migration and landscape",
    "callbacks": "Callbacks",
    "distributed": "Several processes",
    "graph": "Graphs and their measures",
    "cli": "Command line",
    "": "Keys, types, errors",
}


def write_api(app: Sphinx) -> None:
    """One page for each part of the package, one section for each of its modules; and one with the public names."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    modules: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] not in ("__init__", "__main__"):
            modules[parts[0] if len(parts) > 1 else ""].append(".".join(("mebns_pl", *parts)))
    pages = {"index": ""}
    for part in sorted(modules, key=lambda name: list(TITLES).index(name) if name in TITLES else len(TITLES)):
        names = modules[part]
        sections = [title(TITLES.get(part, part.capitalize()), "=")]
        sections += [f"{title(name, '-')}\n.. automodule:: {name}\n" for name in names]
        pages[part or "package"] = "\n".join(sections)
    pages["index"] = public_names([name for name in pages if name != "index"])
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:  # else every page would be read again
            path.write_text(text)
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def public_names(parts: list[str]) -> str:
    """The front page of the API: what ``from mebns_pl import ...`` gives, each with its first sentence."""
    import mebns_pl

    rows = []
    for name in mebns_pl.__all__:
        item = getattr(mebns_pl, name)
        kind = "class" if isinstance(item, type) else "func"
        summary = " ".join((item.__doc__ or "").split("\n\n")[0].split())
        rows.append(f"   * - :py:{kind}:`~{item.__module__}.{item.__qualname__}`\n     - {summary}")
    table = ".. list-table::\n   :widths: 30 70\n\n" + "\n".join(rows)
    pages = "\n   ".join(parts)
    said = "What ``from mebns_pl import ...`` gives; all other modules are on the pages of their parts."
    return f"{title('API', '=')}\n{said}\n\n{table}\n\n.. toctree::\n   :hidden:\n\n   {pages}\n"


def title(text: str, line: str) -> str:
    """A heading."""
    return f"{text}\n{line * len(text)}\n"


def inline_formula(writer: Any, node: nodes.math) -> None:
    """A formula within a line."""
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display_formula(writer: Any, node: nodes.math_block) -> None:
    """A formula on a line of its own."""
    writer.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def drop_empty_patterns(app: Sphinx, docname: str, source: list[str]) -> None:
    """Patterns of the navigation that no page answers to; Sphinx warns of them."""
    if docname == "index":
        lines = source[0].split("\n")
        source[0] = "\n".join(
            line for line in lines if not line.endswith("*") or list(Path(app.srcdir).glob(f"{line}.md"))
        )


def whole_sentence(app: Sphinx, what: str, name: str, item: object, options: Any, lines: list[str]) -> None:
    """Of a constant's "Pairs at once: bounds the memory" the words before the colon would be taken for its type."""
    if what in ("data", "attribute") and lines:
        lines[0] = lines[0].replace(": ", "; ", 1)


def drop_object(app: Sphinx, name: str, item: object, options: Any, bases: list[type]) -> None:
    """`Bases: object` says nothing."""
    bases[:] = [base for base in bases if base is not object]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", write_api)
    app.connect("autodoc-process-docstring", whole_sentence, priority=400)
    app.connect("autodoc-process-bases", drop_object)
    app.connect("source-read", drop_empty_patterns)
    app.add_html_math_renderer("mathml", (inline_formula, None), (display_formula, None))
    app.add_css_file("site.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
