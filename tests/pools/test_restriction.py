"""Chosen nodes, types and forbidden pairs by name, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from mebns_pl import GraphColumns, PredictionPairs
from mebns_pl.datasets.named_pairs import read_named_pairs, read_node_names
from mebns_pl.errors import DataError

NAMES = ["ann", "bob", "cy", "7", "07", "münchen, süd"]


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "nodes.csv"
    kinds = ["user", "user", "item", "item", "user", "shop"]
    rows = [f'"{name}",{i},{kind}' for i, (name, kind) in enumerate(zip(NAMES, kinds, strict=True))]
    path.write_text("\n".join(["node,age,kind", *reversed(rows)]) + "\n")  # in another order than the nodes
    return str(path)


def write(tmp_path: Path, name: str, text: str) -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_types_are_those_of_the_node_table(table: str) -> None:
    pairs = PredictionPairs(source_type="user", target_type="item", type_column="kind")
    allowed = pairs.resolve(NAMES, table)
    assert allowed.sources.tolist() == [True, True, False, False, True, False]
    assert allowed.targets.tolist() == [False, False, True, True, False, False]
    one_sided = PredictionPairs(target_type="shop", type_column="kind").resolve(NAMES, table)
    assert one_sided.sources.all()
    assert one_sided.targets.tolist() == [False] * 5 + [True]


def test_types_from_parquet(tmp_path: Path) -> None:
    path = tmp_path / "nodes.parquet"
    pd.DataFrame({"node": NAMES, "type": list("abcabc")}).to_parquet(path)
    assert PredictionPairs(source_type="a").resolve(NAMES, str(path)).sources.tolist() == [True, False, False] * 2


@pytest.mark.parametrize(
    ("file", "text"),
    [("chosen.txt", "\ufeffcy\n\nmünchen, süd\ncy\n"), ("chosen.csv", 'age,node\n3,cy\n4,"münchen, süd"\n')],
)
def test_chosen_nodes_of_files_and_lists(tmp_path: Path, file: str, text: str) -> None:
    chosen = [False, False, True, False, False, True]
    assert PredictionPairs(nodes=write(tmp_path, file, text)).resolve(NAMES, None).sources.tolist() == chosen
    assert PredictionPairs(nodes=["cy", "münchen, süd"]).resolve(NAMES, None).sources.tolist() == chosen


def test_chosen_nodes_within_a_type(table: str) -> None:
    pairs = PredictionPairs(nodes=["bob"], source_type="user", target_type="item", type_column="kind")
    allowed = pairs.resolve(NAMES, table)
    assert allowed.rows.tolist() == [1]
    assert allowed.targets.tolist() == [False, False, True, True, False, False]


def test_forbidden_pairs_in_any_direction(tmp_path: Path) -> None:
    path = write(tmp_path, "no.csv", "why,target,source\nx,ann,cy\ny,bob,ann\n")
    allowed = PredictionPairs(forbidden=path).resolve(NAMES, None)
    assert allowed.forbidden.tolist() == [[2, 0], [0, 1]]
    assert allowed.mask(torch.tensor([[0, 1, 1], [2, 0, 2]])).tolist() == [False, False, True]


def test_bad_choices_are_refused(tmp_path: Path, table: str) -> None:
    def refused(message: str, node_table: str | None = None, **changes: object) -> None:
        with pytest.raises((DataError, ValueError), match=message):
            PredictionPairs(**changes).resolve(NAMES, node_table)

    refused("nodes: 1 name is of no node of the graph: 'dan'; allowed are its 6 nodes, as 'ann'", nodes=["ann", "dan"])
    refused("pairs.nodes: got an empty list; at least 1 name is needed", nodes=[])
    refused(r"c\.txt: 2 names .*: 'x' \(line 2\), 'y' \(line 4\)", nodes=write(tmp_path, "c.txt", "ann\nx\n\ny\nx\n"))
    refused(r"none\.csv: no such file", nodes=str(tmp_path / "none.csv"))
    refused(r"no column 'node'", nodes=write(tmp_path, "d.csv", "name\nann\n"))
    refused("types stand in a node table", source_type="user")
    refused(
        "pairs.source_type: got 'usr'; column 'kind' .* has item, shop, user",
        table,
        source_type="usr",
        type_column="kind",
    )
    refused("no column 'type'", table, target_type="user")
    refused(
        "'cy' is not of pairs.source_type 'user'; .*swap", table, nodes=["cy"], source_type="user", type_column="kind"
    )
    refused("pairs.max_pairs: expected 1 or more, got 0", max_pairs=0)
    refused(r"f\.csv, line 2: node 'ann' with itself", forbidden=write(tmp_path, "f.csv", "source,target\nann,ann\n"))
    gap = write(tmp_path, "gap.csv", "node,kind\n" + "".join(f'"{name}",a\n' for name in NAMES[:-1]))
    refused("has no value for node 'münchen, süd'", gap, source_type="a", type_column="kind")


def test_unknown_names_are_listed_with_their_lines(tmp_path: Path) -> None:
    lines = ["source,target", "ann,bob", "ann,x0", "x1,x2", "x3,x4", "x5,x6", "x1,bob"]
    path = write(tmp_path, "pairs.csv", "\n".join(lines) + "\n")
    with pytest.raises(DataError) as error:
        read_named_pairs(path, NAMES, "do this")
    assert str(error.value) == (
        f"{path}: 7 names are of no node of the graph: 'x0' (line 3), 'x1' (line 4), 'x2' (line 4), 'x3' (line 5), "
        "'x4' (line 5) and 2 more; allowed are its 6 nodes, as 'ann'; do this"
    )


def test_pairs_keep_their_order_and_direction(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pd.DataFrame({"source": ["cy", "ann", "cy"], "target": ["07", "7", "07"], "n": [1, 2, 3]}).to_parquet(path)
    assert read_named_pairs(path, NAMES).tolist() == [[2, 0, 2], [4, 3, 4]]
    with pytest.raises(DataError, match=r"suffix '\.xlsx'; allowed are \.csv"):
        read_named_pairs("pairs.xlsx", NAMES)


def test_a_list_of_names_must_not_be_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the file is empty"):
        read_node_names(write(tmp_path, "empty.txt", "\n \n"))
    with pytest.raises(DataError, match="no such file"):
        read_node_names(tmp_path / "none.txt")


def test_a_node_table_is_read_as_the_graph_is(tmp_path: Path) -> None:
    rows = ["name;type", *(f'"{name}";{kind}' for name, kind in zip(NAMES, "abcabc", strict=True))]
    path = write(tmp_path, "nodes.csv", "! made by hand\n" + "\n".join(rows) + "\n")
    columns = GraphColumns(node="name", delimiter=";", comment="!")
    assert PredictionPairs(source_type="a").resolve(NAMES, path, columns).sources.tolist() == [True, False, False] * 2
