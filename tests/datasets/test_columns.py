"""Tables read by columns are those that the strict reader reads line by line."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mebns_pl import GraphColumns, LinkDataModule
from mebns_pl.datasets.named_pairs import read_named_pairs
from mebns_pl.datasets.readers import columns
from mebns_pl.datasets.readers.columns import read_columns, read_text, strict_rows
from mebns_pl.datasets.tables import Table, as_numbers
from mebns_pl.errors import DataError
from references.effort import examples, some

TEXTS = ["a", "b", "007", "1e3", "NA", "nan", "null", "None", "True", "", " ", " a", "a ", "\ta", "b\x1c", "\xa0",
         "\u2028", "1.5", "-0", "#", "# a", "\\", "'a'", "2020-01-02", "\u6771\u4eac", "e\u0301", "\ufeff", "\x1a",
         "\x7f", "a,b", "a\tb", "two\nlines", "two\r\nlines", "a\rb", '"', 'say "hi"', '""', "\0", "9" * 9]  # fmt: skip
FIELDS = st.sampled_from(TEXTS) | st.text(max_size=4)
ENDS = ("\n", "\r\n", "\r")
QUOTES = ("never", "where needed", "always", "carelessly")


def quoted(draw: st.DrawFn, value: str, how: str) -> str:
    good = '"' + value.replace('"', '""') + '"'
    needed = any(mark in value for mark in ',\t"\r\n')
    if how == "carelessly":
        return draw(
            st.sampled_from([value, good, f" {good}", f"{good} ", f"{good}x", f"x{good}", f'"{value}', f'""{value}'])
        )
    return good if how == "always" or (how == "where needed" and needed) else value


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A table of one to three columns, or something near to one."""
    width = draw(st.integers(1, 3))
    row = st.lists(FIELDS, min_size=width, max_size=width)
    ragged = st.lists(FIELDS, max_size=4)
    rows = draw(st.lists(row if draw(st.booleans()) else row | ragged, min_size=1, max_size=8))
    how, separator, end = (
        draw(st.sampled_from(QUOTES)),
        draw(st.sampled_from(",\t")),
        st.sampled_from(["\n", "\r\n", "\r"]),
    )
    ends = st.just(draw(end)) | (end if draw(st.booleans()) else st.nothing())
    blank = st.sampled_from(["", "", "", "\n", "\r\n", " \n", '""\n', "#\n"]) if draw(st.booleans()) else st.just("")
    lines = [separator.join(quoted(draw, value, how) for value in values) + draw(ends) + draw(blank) for values in rows]
    text = "".join(lines)
    marks = draw(st.sampled_from(["", "", "\ufeff", "\ufeff\ufeff"]))
    return (marks + (text if draw(st.booleans()) else text.rstrip("\r\n"))).encode(errors="replace")


def outcome(path: Path, plain: bool, *arguments: object) -> tuple[dict[str | int, list[str]], list[int]] | str:
    """The columns and the lines of their rows, or the message."""
    try:
        table = read_text(path, *arguments, plain=plain)
    except DataError as error:
        return str(error)
    values = {name: column.to_pylist() for name, column in table.columns.items()}
    return values, [table.line_of(row) for row in range(len(next(iter(values.values()))))]


@settings(max_examples=examples(600), suppress_health_check=list(HealthCheck), deadline=None)
@given(
    content=tables(),
    separator=st.sampled_from(",\t"),
    comment=st.sampled_from([None, None, "#", "a", "\n"]),
    has_header=st.booleans(),
)
def test_columns_equal_the_strict_readers(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, separator: str, comment: str | None, has_header: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    expected = outcome(path, False, separator, comment, has_header)
    assert outcome(path, True, separator, comment, has_header) == expected
    try:
        vouched = columns._plain_columns(path, separator, comment) is not None
    except DataError:
        vouched = False
    event(f"plain: {vouched}, good: {not isinstance(expected, str)}")


GOOD = ["a,b", '"a,b","c"', '"a""b",c', 'a,""', "007,1e3", "NA,null", "\u6771\u4eac,#x", " a , b", "\ufeffa,b"]
BAD = ['a"b,c', '"a"b,c', 'a, "b"', '"a,b', '"a""b,c', 'a,"b" ', "a", "a,b,c"]


@pytest.mark.parametrize(("lines", "plain"), [(GOOD, True), *[([line], False) for line in BAD]])
def test_what_arrow_is_trusted_with(tmp_path: Path, lines: list[str], plain: bool) -> None:
    path = tmp_path / "any.csv"
    path.write_text("".join(f"{line}\n" for line in ["x,y", *lines, "z,z"]), encoding="utf-8")
    assert (columns._plain_columns(path, ",", None) is not None) == plain


ROWS = ["node_{0},\u6771{0},", '"two\r\nlines {0}","say ""{0}""",b', " name {0} ,\xa0{0},"]


@pytest.mark.parametrize(("row", "end"), some(itertools.product(ROWS, ENDS), list(zip(ROWS, ENDS, strict=True))))
def test_tables_of_several_blocks_equal_the_strict_readers(tmp_path: Path, row: str, end: str) -> None:
    """Arrow reads blocks of 1 MiB, which end anywhere in a line."""
    path = tmp_path / "any.csv"
    path.write_bytes("".join(row.format(i) + end + end * (i % 7 == 0) for i in range(60_000)).encode())
    assert path.stat().st_size > 2**20
    assert columns._plain_columns(path, ",", None) is not None
    assert outcome(path, True, ",", None, False) == outcome(path, False, ",", None, False)


def test_long_fields_and_lines_are_refused_as_by_the_strict_reader(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_text("a,b\n1,2\n" + "x" * 140_000 + ",2\n")
    assert outcome(path, True, ",", None, True) == outcome(path, False, ",", None, True)
    with pytest.raises(DataError, match="any.csv, line 3: .*field larger than field limit"):
        read_columns(path, ["a", "b"])
    path.write_text(",".join(f"column{i}" for i in range(50_000)) + "\n" + "1," * 49_999 + "1\n")
    assert len(read_columns(path, ["column0"]).columns) == 50_000


def test_errors_below_many_good_rows_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    good = 'source,target\n\n"a\nb",c\n' + "c,d\n" * 1000
    for bad, message in (("c", "1 fields, got 'c'"), ("c,", "no name in column 2"), ("c,c", "'c' with itself")):
        path.write_text(f"{good}{bad}\nd,c\n")
        with pytest.raises(DataError, match=rf"pairs\.csv, line 1005: .*{message}"):
            read_named_pairs(path, ["a\nb", "c", "d"])
    path.write_text(f"{good}d,x\ny,x\n")
    with pytest.raises(DataError, match=r"2 names are of no node .*'x' \(line 1005\), 'y' \(line 1006\)"):
        read_named_pairs(path, ["a\nb", "c", "d"])


@given(st.lists(st.floats().map(repr) | st.integers().map(str) | FIELDS, min_size=1, max_size=5))
def test_numbers_are_those_that_python_reads(values: list[str]) -> None:
    def number(value: str) -> float | None:
        try:
            return None if "_" in value else float(value)
        except ValueError:
            return None

    found = as_numbers(pa.chunked_array([values])).to_pylist()
    assert repr(found) == repr([number(value) for value in values])


def test_strict_rows_tell_the_last_line_of_each_row(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n"x\r\ny", z \n#,\n1,2')
    assert list(strict_rows(path, ",", "#")) == [(1, ["a", "b"]), (4, ["x\r\ny", "z"]), (6, ["1", "2"])]


def test_a_table_without_such_a_column(tmp_path: Path) -> None:
    table = Table(tmp_path / "t.csv", {0: pa.chunked_array([["a"]])})
    with pytest.raises(DataError, match=r"t\.csv: no column 1; the lines have columns 0 \.\.\. 0"):
        table.column(1)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_types_are_read_beside_chosen_features(tmp_path: Path, suffix: str) -> None:
    pd.DataFrame({"source": ["a", "b", "c"], "target": ["x", "y", "x"]}).to_csv(tmp_path / "edges.csv", index=False)
    nodes = pd.DataFrame({"node": list("abcxy"), "age": range(5), "type": ["user"] * 3 + ["item"] * 2})
    if suffix == ".csv":
        nodes.to_csv(tmp_path / "nodes.csv", index=False)
    else:
        nodes.to_parquet(tmp_path / "nodes.parquet")
    path, columns = str(tmp_path / f"nodes{suffix}"), GraphColumns(features=["age"])
    data = LinkDataModule(str(tmp_path / "edges.csv"), nodes=path, columns=columns)
    assert data.loaded.node_types == nodes["type"].tolist()
    assert data.spec.num_features == 1
