from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebns_pl.datasets.files import read_edge_list
from mebns_pl.datasets.loaded import first_times, name_order, undirected_edges, unique_edges
from mebns_pl.datasets.tables import standardize_columns
from mebns_pl.errors import DataError


@pytest.fixture
def write(tmp_path: Path):
    """Writes a file of the given name and content (text or bytes) and returns its path."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def test_names_are_sorted_integers_first(write):
    graph = read_edge_list(write("net.csv", "source,target\nb,10\n9,a\n10,9\n007,7\n-3,B\n"))
    assert graph.node_names == ["-3", "007", "7", "9", "10", "B", "a", "b"]
    assert graph.edges.tolist() == [[0, 1, 3, 3, 4], [5, 2, 4, 6, 7]]
    assert graph.edges.dtype == torch.int64
    assert (graph.name, graph.x, graph.notes, graph.num_nodes, graph.num_edges) == ("net", None, [], 8, 5)
    assert graph.spec == (8, 0, False)


def test_self_loops_and_repeated_edges_are_dropped_and_counted(write):
    graph = read_edge_list(write("net.csv", "source,target\na,b\nb,a\na,b\na,a\nc,c\nb,c\n"))
    assert graph.edges.tolist() == [[0, 1], [1, 2]]
    assert graph.notes == ["2 self-loops dropped", "2 repeated edges dropped"]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffsource,target\nä,b\nb,\u6771\u4eac\n".encode(),
        "source,target\r\nä,b\r\nb,\u6771\u4eac\r\n".encode(),
        "source,target\rä,b\rb,\u6771\u4eac".encode(),
        '"target","source"\n"b","ä"\n\n"\u6771\u4eac",b\n'.encode(),
        "when,source, target ,why\n1,ä ,b,x\n2,b,\u6771\u4eac,\n".encode(),
    ],
    ids=["byte order mark", "CRLF", "CR", "quotes and blank lines", "spaces and more columns"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_accepts_spellings_of_the_same_file(write, content, zipped):
    path = write("net.csv.gz", gzip.compress(content, mtime=0)) if zipped else write("net.csv", content)
    graph = read_edge_list(path)
    assert graph.node_names == ["b", "ä", "\u6771\u4eac"]
    assert graph.edges.tolist() == [[0, 0], [1, 2]]
    assert graph.name == "net"


def test_quoted_names_hold_separators_and_line_ends(write):
    graph = read_edge_list(write("net.csv", 'source,target\n"a,b","say ""hi"""\n"two\nlines",c\n'))
    assert graph.node_names == ["a,b", "c", 'say "hi"', "two\nlines"]


def test_no_header_other_separators_and_comments(write):
    tab = write("net.txt", "# a comment\n1\t2\t0.5\n2\t3\t0.1\n")
    graph = read_edge_list(tab, source_column=0, target_column=1, comment="#")
    assert (graph.node_names, graph.edges.tolist()) == (["1", "2", "3"], [[0, 1], [1, 2]])
    semicolon = write("net.dat", "a;x;b\nb;x;c\n")
    graph = read_edge_list(semicolon, source_column=0, target_column=2, delimiter=";")
    assert graph.node_names == ["a", "b", "c"]


def test_node_table_orders_nodes_and_keeps_isolated_ones(write):
    nodes = write("nodes.tsv", "age\tid\tkind\n30\tz\tred\n10\ta\tblue\n20\tlonely\tred\n")
    graph = read_edge_list(write("net.csv", "source,target\na,z\n"), nodes, node_column="id")
    assert graph.node_names == ["z", "a", "lonely"]
    assert graph.edges.tolist() == [[0], [1]]
    high = 1.5**0.5
    assert graph.x.dtype == torch.float32
    torch.testing.assert_close(graph.x, torch.tensor([[high, 0, 1], [-high, 1, 0], [0, 0, 1]]))
    assert graph.notes == ["column 'age' standardised", "column 'kind' one-hot encoded (2 values)"]


def test_features_can_be_chosen_and_left_as_they_are(write):
    nodes = write("nodes.csv", "node,a,b,c\nx,1,2,t\ny,3,-4e1,u\n")
    edges = write("net.csv", "source,target\nx,y\n")
    graph = read_edge_list(edges, nodes, feature_columns=["b", "a"], standardize=False)
    assert graph.x.tolist() == [[2.0, 1.0], [-40.0, 3.0]]
    assert read_edge_list(edges, nodes, feature_columns=[]).x is None


def edges_error(path: Path, **arguments) -> str:
    with pytest.raises(DataError) as caught:
        read_edge_list(path, **arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("net.csv", "", ["the file is empty"]),
        ("net.csv", "source,target\n", ["the file is empty", "below the header"]),
        ("net.csv", b"\x89PNG\r\n\x1a\n\x00\xff", ["not text"]),
        ("net.csv", b"source,target\na\x00,b\n", ["NUL"]),
        ("net.csv", "source,target\na,b\n".encode("utf-16"), ["not text", "UTF-8"]),
        ("net.csv.gz", b"source,target\na,b\n", ["cannot be read"]),
        ("net.csv.gz", gzip.compress(b"source,target\na,b\n" * 9, mtime=0)[:-12], ["cannot be read"]),
        ("net.csv", "source,target\na,b\nb,c,d\n", ["line 3", "3 fields", "'b,c,d'", "must have 2"]),
        ("net.csv", "source,target\na,b\n\nb\n", ["line 4", "1 fields", "must have 2"]),
        ("net.csv", "from,target\na,b\n", ["no column 'source'", "['from', 'target']"]),
        ("net.csv", "source;target\na;b\n", ["no column 'source'", "['source;target']"]),
        ("net.csv", "source,target,target\na,b,c\n", ["'target' stands twice"]),
        ("net.csv", "source,target\na,b\nb, \n", ["line 3", "no name in column 2"]),
        ("net.csv", 'source,target\na,b\n"b,c\n', ["line 3", "text"]),
        ("net.csv", "source,target\na,a\n", ["no edge", "1 is needed"]),
        ("net.xlsx", "source,target\na,b\n", ["'.xlsx'", ".csv, .tsv", "`delimiter`"]),
    ],
)
def test_errors_of_edge_lists_say_where_and_what(write, name, content, parts):
    message = edges_error(write(name, content))
    for part in [name, *parts]:
        assert part in message


def test_errors_of_arguments(write, tmp_path):
    path = write("net.csv", "a,b\nb,c\n")
    assert "no such file" in edges_error(tmp_path / "none.csv")
    assert "no such file" in edges_error(tmp_path)
    assert "two names" in edges_error(path, source_column=0)
    assert "columns 0 ... 1" in edges_error(path, source_column=0, target_column=2)
    assert "columns 0 ... 1" in edges_error(path, source_column=-1, target_column=1)
    assert "delimiter: got ', '" in edges_error(path, source_column=0, target_column=1, delimiter=", ")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("node,a\nx,1\n", ["net.csv, line 2", "node 'y' is not in the node table", "1 names"]),
        ("name,a\nx,1\ny,2\n", ["nodes.csv", "no column 'node'", "['name', 'a']"]),
        ("node,a\nx,1\ny,2\nx,3\n", ["nodes.csv, line 4", "'x' is also on line 2"]),
        ("node,a\nx,1\n,2\n", ["nodes.csv, line 3", "no name in column 1"]),
        ("node,a\nx,1\ny,\n", ["nodes.csv, line 3", "column 'a' has no value"]),
        ("node,a\nx,1\ny,nan\n", ["nodes.csv, line 3", "column 'a' has 'nan'", "finite"]),
        ("node,a\nx,-inf\ny,2\n", ["nodes.csv, line 2", "'-inf'", "finite"]),
        ("node,a\nx,1e39\ny,2\n", ["nodes.csv, line 2", "'1e39'", "float32"]),
        ("node,a\nx,1\ny,12x\n", ["nodes.csv, line 3", "'12x'", "'1' on line 2"]),
        ("node,a\nx,red\ny,1_000\nz,5\n", ["nodes.csv, line 2", "'red'", "'5' on line 4"]),
    ],
)
def test_errors_of_node_tables_say_where_and_what(write, content, parts):
    message = edges_error(write("net.csv", "source,target\nx,y\n"), nodes_path=write("nodes.csv", content))
    for part in parts:
        assert part in message


def test_texts_of_too_many_kinds_are_refused(write):
    nodes = write("nodes.csv", "node,title\n" + "".join(f"{i},t{i}\n" for i in range(257)))
    edges = write("net.csv", "source,target\n0,1\n")
    assert "257 different texts; at most 256" in edges_error(edges, nodes_path=nodes)
    assert read_edge_list(edges, nodes, feature_columns=[]).num_nodes == 257


@given(
    st.lists(
        st.tuples(*[st.floats(-1e300, 1e300) | st.integers(-3, 3)] * 2),
        min_size=1,
        max_size=8,
    )
)
def test_standardized_columns_have_zero_mean_and_unit_variance(rows):
    x = torch.tensor(rows, dtype=torch.float64)
    z = standardize_columns(x)
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.double().mean(dim=0), torch.zeros(2, dtype=torch.float64), atol=1e-5, rtol=0)
    constant = (x == x[:1]).all(dim=0)
    torch.testing.assert_close(z.double().square().mean(dim=0), (~constant).double(), atol=1e-5, rtol=0)


def test_a_constant_column_becomes_zero():
    assert standardize_columns(torch.full((3, 1), 0.1)).tolist() == [[0.0]] * 3


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30))
def test_unique_edges_equal_a_set(pairs):
    edges, notes = unique_edges(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t(), 7)
    expected = sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})
    assert edges.t().tolist() == [list(pair) for pair in expected]
    loops = sum(a == b for a, b in pairs)
    counts = [int(note.split()[0]) for note in notes]
    assert counts == [count for count in (loops, len(pairs) - loops - len(expected)) if count]


def test_huge_integers_are_texts():
    assert name_order("1" * 5000)[0] == 1
    assert name_order("12")[0] == 0
    assert name_order("\u0661")[0] == 1  # a digit, but no ASCII one


@given(
    st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5)] * 2).filter(
            lambda pair: all(name.strip() for name in pair) and pair[0].strip() != pair[1].strip()
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_quoted_names_come_back(tmp_path_factory, pairs):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    quoted = [[f'"{name.replace(chr(34), chr(34) * 2)}"' for name in pair] for pair in pairs]
    path.write_bytes("".join(f"{a},{b}\n" for a, b in [["source", "target"], *quoted]).encode())
    graph = read_edge_list(path)
    found = {frozenset((graph.node_names[a], graph.node_names[b])) for a, b in graph.edges.t().tolist()}
    assert found == {frozenset(name.strip() for name in pair) for pair in pairs}


def test_times_of_edges(write):
    lines = ["source,target,when,day", "a,b,3,2020-01-02", "b,a,1,2020-01-01T12:00:00+12:00", "b,c,2,1970-01-01"]
    path = write("net.csv", "\n".join(lines))
    assert read_edge_list(path).times is None
    graph = read_edge_list(path, time_column="when")
    assert graph.times.tolist() == [1.0, 2.0]  # of the repeated edge, the first
    assert graph.times.dtype == torch.float64
    assert read_edge_list(path, time_column="day").times.tolist() == [1577836800.0, 0.0]
    assert "no column 'then'" in edges_error(path, time_column="then")
    path = write("net.txt", "1\t2\t5\n2\t3\t6\n")
    assert read_edge_list(path, source_column=0, target_column=1, time_column=2).times.tolist() == [5.0, 6.0]


@pytest.mark.parametrize("value", ["", "nan", "inf", "soon", "2020-13-01", "2020-01-01"])
def test_bad_times_are_refused_by_line(write, value):
    path = write("net.csv", f"source,target,when\na,b,1\nb,c,{value}\n")
    message = edges_error(path, time_column="when")
    for part in ("net.csv, line 3", f"'when' has {value!r}", "numbers only, or ISO 8601 dates only"):
        assert part in message


def pairs_and_times():
    return st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(-9, 9)), min_size=1, max_size=20)


@given(pairs_and_times())
def test_first_times_equal_a_dictionary(rows):
    pairs = torch.tensor([row[:2] for row in rows]).t()
    edges, _ = unique_edges(pairs, 6)
    first: dict[tuple[int, int], int] = {}
    for source, target, time in rows:
        edge = (min(source, target), max(source, target))
        first[edge] = min(time, first.get(edge, time))
    times = first_times(edges, pairs, torch.tensor([row[2] for row in rows]), 6)
    assert times.tolist() == [first[tuple(edge)] for edge in edges.t().tolist()]


@given(pairs_and_times())
def test_undirected_edges_equal_sets(rows):
    pairs = torch.tensor([row[:2] for row in rows]).t()
    edges, notes = undirected_edges(pairs, 6)
    directed = {row[:2] for row in rows if row[0] != row[1]}
    assert [tuple(edge) for edge in edges.t().tolist()] == sorted({(min(pair), max(pair)) for pair in directed})
    one_way = sum(pair[::-1] not in directed for pair in directed)
    assert any(f"undirected, {one_way:,} of" in note for note in notes) == bool(one_way)
    if one_way:
        with pytest.raises(DataError, match=f"net.npz: directed, {one_way} of"):
            undirected_edges(pairs, 6, "net.npz")
