"""Edge lists and node tables made at random, and files of the binary kinds cut and changed: a graph or a DataError."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mebns_pl.datasets.files import read_edge_list, read_graph
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.errors import DataError
from mebns_pl.graph.sparse import Features
from references.effort import examples

EXAMPLES = 1100
"""Of edge lists and node tables together, among the slow tests."""
FAST = {"deadline": None, "suppress_health_check": list(HealthCheck)}

DELIMITERS = (",", "\t", ";", "|", " ", "")
LINE_ENDS = ("\n", "\r\n", "\r", "\n\n", "\u2028", "\x0b", "")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp037", "utf-7")
FIELDS = st.one_of(
    st.integers(0, 9).map(str),
    st.sampled_from(
        ["", " ", "a", "b", "-1", "+3", "007", "1.5", "1e3", "1e400", "-inf", "nan", "NaN", "None", "null", "0x1f",
         "1_0", str(2**63), str(-(2**70)), "9" * 400, "\u0663", "1,5", '"', '""', '"a', 'a"b', "'a'", "#", "# a", "\\",
         "\u6771\u4eac", "e\u0301", "\u202e", "\ufeff", "\U0001f600", "true", "2020-01-01", "0001-01-01",
         "9999-12-31T23:59:59+14:00", "source", "target", "node", "=1+1", "\x7f", "\x1a", "\0"]
    ),
    st.text(max_size=6),
)  # fmt: skip
HEADERS = st.sampled_from(
    ["target,source,when", "node,a,b", "from,to", "source", "", "SOURCE,TARGET", "node", "a,node"]
)


FAULTS = ("header", "fields", "width", "rows", "delimiter", "quote", "ends", "encoding", "bytes")


@st.composite
def tables(draw: st.DrawFn, good: str, headers: st.SearchStrategy[str] = HEADERS) -> bytes:
    """A table with up to three of the faults that tables have, or none."""
    faults = draw(st.sets(st.sampled_from(FAULTS), max_size=3))
    names = (draw(headers) if "header" in faults else good).split(",")
    width = draw(st.integers(1, 4)) if "width" in faults else len(names)
    field = FIELDS if "fields" in faults else st.integers(0, 9).map(str)
    rows = draw(st.lists(st.lists(field, min_size=width, max_size=width), min_size=1, max_size=8))
    if "rows" in faults:
        rows = draw(st.lists(st.lists(field, max_size=5), max_size=4))
    delimiter = draw(st.sampled_from(DELIMITERS)) if "delimiter" in faults else ","
    quote = draw(st.sampled_from(["'", '"'])) if "quote" in faults else ""
    lines = [delimiter.join(f"{quote}{value}{quote}" for value in row) for row in [names, *rows]]
    text = "".join(line + (draw(st.sampled_from(LINE_ENDS)) if "ends" in faults else "\n") for line in lines)
    content = text.encode(draw(st.sampled_from(ENCODINGS)) if "encoding" in faults else "utf-8", errors="replace")
    return damaged(draw, content) if "bytes" in faults else content


def damaged(draw: Any, content: bytes) -> bytes:
    """Cut off, or with some bytes changed, left out or put in."""
    if draw(st.booleans()):
        return content[: draw(st.integers(0, len(content)))]
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start, length = draw(st.integers(0, len(changed))), draw(st.integers(0, 8))
        changed[start : start + length] = draw(st.binary(max_size=8))
    return bytes(changed)


def check(path: Path, nodes: Path | None = None, **options: Any) -> LoadedGraph | None:
    """Reads; whatever is let through must be whole, and whatever is refused must be told by file."""
    try:
        graph = read_edge_list(path, nodes, **options) if nodes or options else read_graph(path)
    except DataError as error:
        message = str(error)
        named = [path.name, *([nodes.name] if nodes else []), *options]
        assert any(name in message for name in named), message
        assert len(message) < 3000
        return None
    assert graph.num_edges >= 1
    assert bool((graph.edges[0] < graph.edges[1]).all())
    assert int(graph.edges.min()) >= 0
    assert int(graph.edges.max()) < graph.num_nodes == len(set(graph.node_names))
    assert all(graph.node_names)
    if graph.x is not None:
        values = graph.x.matrix.values() if isinstance(graph.x, Features) else graph.x
        assert graph.spec.num_nodes == graph.num_nodes
        assert bool(values.isfinite().all())
    if graph.times is not None:
        assert graph.times.shape == (graph.num_edges,)
        assert bool(graph.times.isfinite().all())
    return graph


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=examples(EXAMPLES // 2), **FAST)
@given(
    content=tables("source,target") | st.binary(max_size=60),
    suffix=st.sampled_from([".csv", ".tsv", ".txt", ".csv.gz"]),
)
def test_any_edge_list_gives_a_graph_or_a_data_error(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"edges{suffix}"
    path.write_bytes(gzip.compress(content, 1, mtime=0) if suffix == ".csv.gz" and len(content) % 3 else content)
    check(path)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "time_column": st.sampled_from(["when", "source", "", "\u6771"]) | st.integers(-1, 3),
        "delimiter": st.sampled_from(["", ",", ";", "\t", "\n", '"', "ab", "\0", "a", "\u6771", " "]),
        "comment": st.sampled_from(["", "#", "a", "\n"]),
        "source_column": st.sampled_from(["source", "target", "from", 0, 1, -1, 10**30]),
        "target_column": st.sampled_from(["target", "source", "to", 1, 0, 7]),
        "feature_columns": st.lists(st.sampled_from(["a", "b", "node", "zz"]), max_size=3),
        "node_column": st.sampled_from(["node", "a", ""]),
    },
)


@settings(max_examples=examples(EXAMPLES - EXAMPLES // 2), **FAST)
@given(
    edges=st.just(b"source,target,when\n1,2,3\n2,3,4\n3,4,5\n") | tables("source,target,when"),
    nodes=st.none() | st.just(b"node,a\n" + b"".join(b"%d,%d\n" % (i, i) for i in range(10))) | tables("node,a,b"),
    options=OPTIONS,
)
def test_any_node_table_and_option_gives_a_graph_or_a_data_error(
    folder: Path, edges: bytes, nodes: bytes | None, options: dict[str, Any]
) -> None:
    (path := folder / "edges.csv").write_bytes(edges)
    table = None if nodes is None else folder / "nodes.csv"
    if table is not None:
        table.write_bytes(nodes)
    check(path, table, **options)


def test_the_fuzzed_tables_are_of_both_kinds(folder: Path) -> None:
    """Many are accepted and many are refused; else the tests above would say little."""
    accepted = []

    @settings(max_examples=150, database=None, derandomize=True, **FAST)
    @given(content=tables("source,target"))
    def count(content: bytes) -> None:
        (path := folder / "edges.csv").write_bytes(content)
        accepted.append(check(path) is not None)

    count()
    assert 10 <= sum(accepted) <= len(accepted) - 10


GRAPHML = b"""<?xml version="1.0" encoding="UTF-8"?>
<graphml><key id="d0" for="node" attr.name="age" attr.type="double"><default>7</default></key>
<graph edgedefault="directed"><node id="a"><data key="d0">1.5</data></node><node id="b"/><node id="c"/>
<edge source="a" target="b"/><edge source="b" target="c"/></graph></graphml>"""


@cache
def whole_file(suffix: str, folder: Path) -> bytes:
    """A good file of each binary kind, as bytes."""
    path = folder / f"good{suffix}"
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    x = np.eye(4, 3, dtype=np.float32)
    if suffix == ".npz":
        np.savez(path, edges=pairs, x=x, num_nodes=4, node_names=np.array(list("abcd")))
    elif suffix == ".pt":
        torch.save({"edge_index": torch.from_numpy(pairs).t().contiguous(), "x": torch.from_numpy(x)}, path)
    elif suffix == ".parquet":
        pd.DataFrame({"source": list("abcd"), "target": list("bcda"), "w": [1, 2, 3, 4]}).to_parquet(path)
    else:
        path.write_bytes(gzip.compress(GRAPHML, mtime=0) if suffix.endswith(".gz") else GRAPHML)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".parquet", ".graphml", ".graphml.gz"])
@settings(max_examples=examples(60), **FAST)
@given(data=st.data())
def test_files_cut_off_or_changed_give_a_graph_or_a_data_error(folder: Path, suffix: str, data: st.DataObject) -> None:
    content = whole_file(suffix, folder)
    path = folder / f"damaged{suffix}"
    path.write_bytes(damaged(data.draw, content))
    check(path)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".parquet", ".graphml", ".graphml.gz"])
def test_files_cut_off_anywhere_are_refused(folder: Path, suffix: str) -> None:
    """At a hundred places from the first byte to the last; what is cut off is never taken for whole."""
    content = whole_file(suffix, folder)
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    assert check(path) is not None
    places = range(len(content)) if len(content) < 100 else np.linspace(0, len(content) - 1, 100).astype(int).tolist()
    for place in places:
        path.write_bytes(content[:place])
        assert check(path) is None, place
