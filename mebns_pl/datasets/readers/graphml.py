"""GraphML files, read as a stream; document types, and with them entities, are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

import torch

from mebns_pl.datasets.loaded import LoadedGraph, graph_of_pairs
from mebns_pl.datasets.readers.contents import read_bytes, refusing
from mebns_pl.datasets.tables import Table, column_times, table_features, text_column
from mebns_pl.errors import DataError


class _Key(NamedTuple):
    """A declared attribute."""

    name: str
    domain: str
    kind: str
    default: str

    def serves(self, domain: str) -> bool:
        return self.domain in (domain, "all")


class _Item(NamedTuple):
    """A node or an edge as it stands in the file."""

    line: int
    values: dict[str, str]
    source: str = ""
    target: str = ""
    directed: bool = False


@dataclass
class _Element:
    """An element that has begun: where, and the texts of the ``data`` or ``default`` within it, by key."""

    tag: str
    attributes: dict[str, str]
    line: int
    texts: dict[str, str] = field(default_factory=dict)
    text: str = ""


def read_graphml(
    path: Path,
    feature_columns: Sequence[str] | None = None,
    time_column: str | None = None,
    undirected: bool = True,
    standardize: bool = True,
) -> LoadedGraph:
    """Reads a graph from GraphML (also gzipped). Nodes keep the file's order and are named by their ``id``.

    Attributes of nodes become features as the columns of a node table do.

    Args:
        path: the file.
        feature_columns: names of the node attributes to use; None takes all.
        time_column: name of the edge attribute with times, or None.
        undirected: whether directed edges are made undirected; False refuses them.
        standardize: whether numeric features are standardised.

    Raises:
        DataError: a file that is missing, damaged or no GraphML; hyperedges, nested or several graphs; a node given
            twice; an edge between nodes that are not there; an attribute missing or with a bad value; no edge.
    """
    found = _Reader(path)
    found.read()
    number = {name: i for i, name in enumerate(found.nodes)}
    for edge in found.edges:
        for end in (edge.source, edge.target):
            if end not in number:
                allowed = f"allowed are the {len(number):,} nodes of the file"
                raise DataError(f"{path}, line {edge.line}: no node {end!r}; {allowed}")
    ends = torch.tensor([[number[end] for end in (edge.source, edge.target)] for edge in found.edges])
    ends = ends.long().view(-1, 2).t()
    nodes = found.table(list(found.nodes.values()), "node")
    columns = [str(name) for name in nodes.columns] if feature_columns is None else feature_columns
    x, notes = table_features(nodes, columns, standardize)
    times = None if time_column is None else column_times(found.table(found.edges, "edge"), time_column)
    directed = torch.tensor([edge.directed for edge in found.edges], dtype=torch.bool)
    some = bool(directed.any())
    if some:  # an undirected edge among them stands for both directions
        ends = torch.cat([ends, ends[:, ~directed].flip(0)], dim=1)
        times = None if times is None else torch.cat([times, times[~directed]])
    return graph_of_pairs(path, ends, list(found.nodes), x, times, notes, directed=some, undirected=undirected)


class _Reader:
    """Collects nodes, edges and declared attributes; every message names a line.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes: dict[str, _Item] = {}
        self.edges: list[_Item] = []
        self._keys: dict[str, _Key] = {}
        self._open: list[_Element] = []
        self._directed: bool | None = None

    def table(self, items: Sequence[_Item], domain: str) -> Table:
        """The attributes of nodes or of edges."""
        keys = [key for key in self._keys.values() if key.serves(domain)]
        columns: dict[str | int, Any] = {
            key.name: text_column(item.values.get(key.name, key.default) for item in items) for key in keys
        }
        return Table(self.path, columns, "line", lambda row: items[row].line)

    def read(self) -> None:
        """Reads the whole file."""
        parser = expat.ParserCreate()
        parser.buffer_text = True

        def refuse(*_: object) -> None:
            raise self._error(parser.CurrentLineNumber, "a document type; allowed is GraphML without one")

        parser.StartDoctypeDeclHandler = refuse
        parser.StartElementHandler = lambda tag, attributes: self._start(
            _Element(tag.rpartition(":")[2], attributes, parser.CurrentLineNumber)
        )
        parser.EndElementHandler = lambda _: self._end(self._open.pop())
        parser.CharacterDataHandler = self._characters
        with refusing(self.path, (LookupError, ValueError), "cannot be decoded"):
            try:
                parser.Parse(read_bytes(self.path), True)
            except expat.ExpatError as error:
                raise self._error(error.lineno, f"no well-formed XML ({expat.ErrorString(error.code)})") from error
        if self._directed is None:
            raise DataError(f"{self.path}: no <graph> within <graphml>; one is needed")

    def _error(self, line: int, what: str) -> DataError:
        return DataError(f"{self.path}, line {line}: {what}")

    def _start(self, element: _Element) -> None:
        if not self._open and element.tag != "graphml":
            raise self._error(element.line, f"the file begins with <{element.tag[:40]}>; allowed is <graphml>")
        if element.tag == "hyperedge":
            raise self._error(element.line, "a hyperedge; allowed are edges of two ends")
        if element.tag == "graph":
            if self._directed is not None:
                raise self._error(element.line, "a second or nested <graph>; allowed is one")
            self._directed = self._choice(element, "edgedefault", {"directed": True, "undirected": False})
        self._open.append(element)

    def _characters(self, text: str) -> None:
        for element in reversed(self._open):
            if element.tag in ("data", "default"):
                element.text += text
                return

    def _end(self, element: _Element) -> None:
        parent = self._open[-1] if self._open else element
        if element.tag == "default" and parent.tag == "key":
            parent.texts["default"] = element.text.strip()
        elif element.tag == "data" and parent.tag in ("node", "edge"):
            key = self._needed(element, "key")
            if key not in self._keys:
                raise self._error(element.line, f"data of key {key!r}; allowed are {', '.join(self._keys) or 'none'}")
            parent.texts[self._keys[key].name] = _value(element.text, self._keys[key].kind)
        elif element.tag == "key":
            self._declare(element)
        elif element.tag == "node":
            name = self._needed(element, "id").strip()
            if not name or name in self.nodes:
                first = f"is also on line {self.nodes[name].line}" if name else "is empty"
                raise self._error(element.line, f"node {name!r} {first}; each node must have a name and stand once")
            self.nodes[name] = _Item(element.line, element.texts)
        elif element.tag == "edge":
            source, target = (self._needed(element, end).strip() for end in ("source", "target"))
            directed = bool(self._directed)
            if "directed" in element.attributes:
                directed = self._choice(element, "directed", {"true": True, "false": False, "1": True, "0": False})
            self.edges.append(_Item(element.line, element.texts, source, target, directed))

    def _declare(self, element: _Element) -> None:
        identity = self._needed(element, "id")
        name, domain, kind = (
            element.attributes.get(key, default)
            for key, default in (("attr.name", identity), ("for", "all"), ("attr.type", "string"))
        )
        rivals = [key for key in self._keys.values() if key.name == name and (domain == "all" or key.serves(domain))]
        if rivals or identity in self._keys:
            what = f"key {identity!r} ({name!r}) is declared twice; each attribute must have one key"
            raise self._error(element.line, what)
        self._keys[identity] = _Key(name, domain, kind, _value(element.texts.get("default", ""), kind))

    def _needed(self, element: _Element, name: str) -> str:
        if name not in element.attributes:
            raise self._error(element.line, f"<{element.tag}> without {name!r}; it is needed")
        return element.attributes[name]

    def _choice(self, element: _Element, name: str, choices: dict[str, bool]) -> bool:
        value = self._needed(element, name)
        if value not in choices:
            raise self._error(element.line, f"{name}: got {value[:40]!r}; allowed are {', '.join(choices)}")
        return choices[value]


def _value(text: str, kind: str) -> str:
    """The text of an attribute; truth values as 1 and 0."""
    text = text.strip()
    return {"true": "1", "false": "0"}.get(text.lower(), text) if kind == "boolean" else text
