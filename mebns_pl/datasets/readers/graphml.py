"""GraphML files, read as a stream; document types, and with them entities, are refused.

Libraries write it in ways of their own: networkx declares an attribute once for each type of its values, igraph keeps
names in an attribute, Neo4j and Gephi give attributes of nodes and of edges the same key, or declare none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

import torch

from mebns_pl.datasets.limits import check_size, limit
from mebns_pl.datasets.loaded import LoadedGraph, graph_of_pairs
from mebns_pl.datasets.readers.contents import read_bytes, refusing
from mebns_pl.datasets.readers.options import DEFAULT_COLUMNS, GraphColumns, chosen_features, edge_weights
from mebns_pl.datasets.relations import predicted_rows, with_context
from mebns_pl.datasets.tables import (
    MAX_LEVELS,
    Table,
    column_times,
    distinct,
    first_repeat,
    is_text_only,
    table_features,
    text_column,
)
from mebns_pl.errors import DataError

_DOMAINS = ("node", "edge")
_NAMES = ("name", "label")
"""Attributes that name nodes, where every node has one of its own: igraph's and Gephi's."""
_LABELS = ("labels", "label")
"""What Neo4j writes of nodes and edges without a declaration."""
_BLOCK = 2**16


class _Key(NamedTuple):
    """A declared attribute of nodes or of edges."""

    name: str
    kind: str
    default: str


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
    columns: GraphColumns = DEFAULT_COLUMNS,
    time_column: str | None = None,
    undirected: bool = True,
    standardize: bool = True,
) -> LoadedGraph:
    """Reads a graph from GraphML (also gzipped). Nodes keep the file's order.

    They are named by the attribute ``columns.node``; where the file has none of that name, by its attributes ``name``
    or ``label`` if these are texts that differ from node to node, or else by their ``id``. The other attributes of
    nodes become features as the columns of a node table do; unless they are asked for by name, those that some node
    lacks, and those of too many texts, are left out, which ``notes`` tell.

    Args:
        path: the file.
        columns: which attributes are names, features, labels and weights.
        time_column: name of the edge attribute with times, or None.
        undirected: whether directed edges are made undirected; False refuses them.
        standardize: whether numeric features are standardised.

    Raises:
        DataError: a file that is missing, damaged, larger than allowed, or no GraphML; hyperedges, nested or several
            graphs; a node given twice; an edge between nodes that are not there; an attribute missing or with a bad
            value; no edge.
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
    edges = found.table(found.edges, "edge", {time_column, columns.weight, columns.relation} - {None})
    names, named_by = _names(nodes, list(found.nodes), columns.node)
    wanted, notes = chosen_features(nodes, columns, named_by)
    if columns.features is None:
        wanted, left_out = _complete(nodes, wanted, list(found.nodes.values()))
        notes += left_out
    x, encoded = table_features(nodes, wanted, standardize)
    chosen = torch.ones(ends.shape[1], dtype=torch.bool) if columns.relation is None else predicted_rows(edges, columns)
    others, ends = ends[:, ~chosen], ends[:, chosen]
    edges = edges if columns.relation is None else edges.part(chosen)  # the others need neither weights nor times
    times = None if time_column is None else column_times(edges, time_column)
    weights, told = edge_weights(edges, columns, {time_column, columns.relation})
    directed = torch.tensor([edge.directed for edge in found.edges], dtype=torch.bool)[chosen]
    some = bool(directed.any())
    if some:  # an undirected edge among them stands for both directions
        ends = torch.cat([ends, ends[:, ~directed].flip(0)], dim=1)
        times, weights = (None if each is None else torch.cat([each, each[~directed]]) for each in (times, weights))
    told = [*found.notes(), *([f"nodes named by attribute {named_by!r}"] * bool(named_by)), *encoded, *notes, *told]
    loaded = graph_of_pairs(
        path,
        ends,
        names,
        x,
        times,
        told,
        directed=some,
        undirected=undirected,
        weights=weights,
        node_types=columns.types(nodes),
    )
    return loaded if columns.relation is None else with_context(loaded, others)


def _names(nodes: Table, ids: list[str], asked: str) -> tuple[list[str], str]:
    """Names of nodes, and the attribute that they come from, or ""."""
    if asked in nodes.columns:
        names = nodes.names(asked)[0].to_pylist()
        repeat = first_repeat(names)
        if repeat is not None:
            row, first = repeat
            what = f"node {names[row]!r} is also on line {nodes.line_of(first)}; each node must have a name of its own"
            raise DataError(f"{nodes.at(row)}: {what}")
        return names, asked
    if asked != DEFAULT_COLUMNS.node:
        nodes.column(asked)  # says what there is
    for attribute in _NAMES:
        column = nodes.columns.get(attribute)
        if column is not None and not column.null_count and is_text_only(column):
            texts = column.to_pylist()
            if first_repeat(texts) is None:
                return texts, attribute
    return ids, ""


def _complete(nodes: Table, names: Sequence[str], items: Sequence[_Item]) -> tuple[list[str], list[str]]:
    """Which attributes every node has, with few enough texts, and notes on the others; empty values are not absent."""
    kept, notes = [], []
    for name in names:
        column = nodes.column(name)
        levels = len(distinct(column)) if is_text_only(column) else 0
        absent = sum(name not in item.values for item in items) if column.null_count else 0
        if column.null_count and column.null_count in (absent, len(column)):
            notes.append(f"attribute {name!r} left out: {column.null_count:,} of {len(column):,} nodes have no value")
        elif levels > MAX_LEVELS:
            notes.append(f"attribute {name!r} left out: {levels:,} different texts, more than {MAX_LEVELS}")
        else:
            kept.append(name)
    return kept, notes


class _Reader:
    """Collects nodes, edges and declared attributes; every message names a line.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes: dict[str, _Item] = {}
        self.edges: list[_Item] = []
        self._keys: dict[tuple[str, str], _Key] = {}  # by domain and id
        self._undeclared: dict[tuple[str, str], list[int]] = {}  # the lines of their data
        self._open: list[_Element] = []
        self._directed: bool | None = None

    def table(self, items: Sequence[_Item], domain: str, only: Collection[str | int | None] | None = None) -> Table:
        """The attributes of nodes or of edges, all or only some; those of one name together."""
        defaults: dict[str, str] = {}
        for (served, _), key in self._keys.items():
            if served == domain:
                defaults[key.name] = defaults.get(key.name) or key.default
        unread = [name for name in defaults if only is not None and name not in only]
        if only is not None:
            defaults = {name: default for name, default in defaults.items() if name in only}
        check_size(f"{self.path}, attributes", len(defaults) * len(items), "values")
        check_size(f"{self.path}, defaults", sum(map(len, defaults.values())) * len(items), "bytes of text")
        columns: dict[str | int, Any] = {
            name: text_column(item.values.get(name, default) for item in items) for name, default in defaults.items()
        }
        return Table(self.path, columns, "line", lambda row: items[row].line, unread)

    def notes(self) -> list[str]:
        """What there is to tell of the declarations."""
        names = ", ".join(dict.fromkeys(repr(name) for _, name in list(self._undeclared)[:20]))
        return [f"not declared, and taken as texts: {names}"] * bool(names)

    def read(self) -> None:
        """Reads the whole file."""
        content = read_bytes(self.path)
        check_size(self.path, content.count(b"<"), "tags")
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
                for first in range(0, len(content), _BLOCK):
                    block = content[first : first + _BLOCK]
                    parser.Parse(block, False)
                    # A tag that does not end is kept whole by the parser
                    waiting = first + len(block) - parser.CurrentByteIndex
                    where = f"{self.path}, line {parser.CurrentLineNumber}"
                    check_size(where, waiting, "characters of a value", least=True)
                parser.Parse(b"", True)
            except expat.ExpatError as error:
                raise self._error(error.lineno, f"no well-formed XML ({expat.ErrorString(error.code)})") from error
        if self._directed is None:
            raise DataError(f"{self.path}: no <graph> within <graphml>; one is needed")
        for (domain, identity), lines in self._undeclared.items():
            if len(lines) < len(self.nodes if domain == "node" else self.edges) and identity not in _LABELS:
                declared = ", ".join(dict.fromkeys(name for _, name in self._keys)) or "none"
                raise self._error(lines[0], f"data of key {identity!r}; allowed are {declared}")
            self._keys[domain, identity] = _Key(identity, "string", "")

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
        check_size(f"{self.path}, line {element.line}", len(self._open), "nested levels")

    def _characters(self, text: str) -> None:
        for element in reversed(self._open):
            if element.tag in ("data", "default"):
                if len(element.text) + len(text) > limit("characters of a value"):
                    where = f"{self.path}, line {element.line}"
                    check_size(where, len(element.text) + len(text), "characters of a value", least=True)
                element.text += text
                return

    def _end(self, element: _Element) -> None:
        parent = self._open[-1] if self._open else element
        if element.tag == "default" and parent.tag == "key":
            parent.texts["default"] = element.text.strip()
        elif element.tag == "data" and parent.tag in ("node", "edge"):
            identity = self._needed(element, "key")
            key = self._keys.get((parent.tag, identity))
            if key is None:
                key = _Key(identity, "string", "")
                self._undeclared.setdefault((parent.tag, identity), []).append(element.line)
            parent.texts[key.name] = _value(element.text, key.kind)
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
        for served in _DOMAINS:
            if domain not in (served, "all"):
                continue
            if (served, identity) in self._keys:
                what = f"key {identity!r} ({name!r}) is declared twice; each attribute must have one key"
                raise self._error(element.line, what)
            self._keys[served, identity] = _Key(name, kind, _value(element.texts.get("default", ""), kind))

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
