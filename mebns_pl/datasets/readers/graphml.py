"""GraphML files, read as a stream; document types, and with them entities, are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

import torch

from mebns_pl.datasets.loaded import LoadedGraph, first_times, undirected_edges, unique_edges
from mebns_pl.datasets.readers.contents import read_bytes
from mebns_pl.datasets.tables import Table, column_times, table_features, text_column
from mebns_pl.errors import DataError


class _Key(NamedTuple):
    """A declared attribute."""

    name: str
    domain: str
    kind: str


@dataclass
class _Item:
    """A node or an edge as it stands in the file."""

    line: int
    values: dict[str, str]
    source: str = ""
    target: str = ""
    directed: bool = False


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
    found = _Parser(path).parse()
    number = {name: i for i, name in enumerate(found.nodes)}
    pairs: list[tuple[int, int]] = []
    for edge in found.edges:
        for end in (edge.source, edge.target):
            if end not in number:
                allowed = f"allowed are the {len(number):,} nodes of the file"
                raise DataError(f"{path}, line {edge.line}: no node {end!r}; {allowed}")
        pairs.append((number[edge.source], number[edge.target]))
    if not any(source != target for source, target in pairs):
        raise DataError(f"{path}: no edge between two different nodes; at least 1 is needed")
    ends = torch.tensor(pairs, dtype=torch.int64).t()
    directed = torch.tensor([edge.directed for edge in found.edges])
    if bool(directed.any()):  # an undirected edge among them stands for both directions
        both = torch.cat([ends, ends[:, ~directed].flip(0)], dim=1)
        edges, notes = undirected_edges(both, len(number), "" if undirected else str(path))
    else:
        edges, notes = unique_edges(ends, len(number))
    times = None
    if time_column is not None:
        table = _table(path, list(found.edges), [key for key in found.keys if key.domain in ("edge", "all")])
        times = first_times(edges, ends, column_times(table, time_column), len(number))
    keys = [key for key in found.keys if key.domain in ("node", "all")]
    columns = [key.name for key in keys] if feature_columns is None else feature_columns
    x, told = table_features(_table(path, list(found.nodes.values()), keys), columns, standardize)
    return LoadedGraph(path.name.split(".")[0], edges, list(found.nodes), x, notes + told, times)


def _table(path: Path, items: list[_Item], keys: list[_Key]) -> Table:
    columns: dict[str | int, Any] = {
        key.name: text_column(item.values.get(key.name, "") for item in items) for key in keys
    }
    return Table(path, columns, "line", lambda row: items[row].line)


@dataclass
class _Parser:
    """Collects nodes, edges and declared attributes; every message names a line."""

    path: Path
    nodes: dict[str, _Item] = field(default_factory=dict)
    edges: list[_Item] = field(default_factory=list)
    _declared: dict[str, _Key] = field(default_factory=dict)
    _defaults: dict[str, str] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _item: _Item | None = None
    _key: str = ""
    _text: list[str] | None = None
    _directed: bool | None = None

    @property
    def keys(self) -> list[_Key]:
        """The declared attributes, in their order."""
        return list(self._declared.values())

    def parse(self) -> _Parser:
        """Reads the whole file."""
        data = read_bytes(self.path)
        self._expat = expat.ParserCreate()
        self._expat.StartDoctypeDeclHandler = self._refuse_doctype
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._characters
        try:
            self._expat.Parse(data, True)
        except expat.ExpatError as error:
            raise DataError(
                f"{self.path}, line {error.lineno}: no well-formed XML ({expat.ErrorString(error.code)})"
            ) from error
        except (LookupError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self.path}: cannot be decoded ({error})") from error
        if self._directed is None:
            raise DataError(f"{self.path}: no <graph> within <graphml>; one is needed")
        self._fill_defaults()
        return self

    def _error(self, what: str) -> DataError:
        return DataError(f"{self.path}, line {self._expat.CurrentLineNumber}: {what}")

    def _refuse_doctype(self, *_: object) -> None:
        raise self._error("a document type; allowed is GraphML without one")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if not self._open and tag != "graphml":
            raise self._error(f"the file begins with <{tag[:40]}>; allowed is <graphml>")
        parent = self._open[-1] if self._open else ""
        self._open.append(tag)
        line = self._expat.CurrentLineNumber
        if tag == "graph":
            if self._directed is not None:
                raise self._error("a second or nested <graph>; allowed is one")
            self._directed = self._choice(attributes, "edgedefault", {"directed": True, "undirected": False})
        elif tag == "key":
            self._declare(attributes)
        elif tag == "node":
            name = self._needed(attributes, "id").strip()
            if not name or name in self.nodes:
                first = f"is also on line {self.nodes[name].line}" if name else "is empty"
                raise self._error(f"node {name!r} {first}; each node must have a name and stand once")
            self._item = self.nodes[name] = _Item(line, {})
        elif tag == "edge":
            ends = [self._needed(attributes, end).strip() for end in ("source", "target")]
            directed = bool(self._directed)
            if "directed" in attributes:
                directed = self._choice(attributes, "directed", {"true": True, "false": False, "1": True, "0": False})
            self._item = _Item(line, {}, ends[0], ends[1], directed)
            self.edges.append(self._item)
        elif tag == "hyperedge":
            raise self._error("a hyperedge; allowed are edges of two ends")
        elif tag == "data" and parent in ("node", "edge"):
            self._key = self._needed(attributes, "key")
            if self._key not in self._declared:
                raise self._error(f"data of key {self._key!r}; allowed are {', '.join(self._declared) or 'none'}")
            self._text = []
        elif tag == "default" and parent == "key":
            self._text = []

    def _end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        self._open.pop()
        if tag in ("data", "default") and self._text is not None:
            value = "".join(self._text).strip()
            if self._declared[self._key].kind == "boolean":
                value = {"true": "1", "false": "0"}.get(value.lower(), value)
            if tag == "default":
                self._defaults[self._declared[self._key].name] = value
            elif self._item is not None:
                self._item.values[self._declared[self._key].name] = value
            self._text = None
        elif tag in ("node", "edge"):
            self._item = None

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def _declare(self, attributes: dict[str, str]) -> None:
        self._key = self._needed(attributes, "id")
        key = _Key(
            attributes.get("attr.name", self._key), attributes.get("for", "all"), attributes.get("attr.type", "string")
        )
        if self._key in self._declared or any(
            key.name == other.name and _meet(key, other) for other in self._declared.values()
        ):
            raise self._error(f"key {self._key!r} ({key.name!r}) is declared twice; each attribute must have one key")
        self._declared[self._key] = key

    def _needed(self, attributes: dict[str, str], name: str) -> str:
        if name not in attributes:
            raise self._error(f"<{self._open[-1]}> without {name!r}; it is needed")
        return attributes[name]

    def _choice(self, attributes: dict[str, str], name: str, choices: dict[str, bool]) -> bool:
        value = self._needed(attributes, name)
        if value not in choices:
            raise self._error(f"{name}: got {value[:40]!r}; allowed are {', '.join(choices)}")
        return choices[value]

    def _fill_defaults(self) -> None:
        for key in self.keys:
            if key.name in self._defaults:
                items = [*self.nodes.values()] * (key.domain != "edge") + self.edges * (key.domain != "node")
                for item in items:
                    item.values.setdefault(key.name, self._defaults[key.name])


def _meet(one: _Key, other: _Key) -> bool:
    """Whether both are attributes of the same kind of thing."""
    return one.domain == other.domain or "all" in (one.domain, other.domain)
