"""The cache of evaluation negatives: what it is found by, and that damage is found and mended."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mebns_pl.evaluation.negative_cache import CachedNegatives, cached, describe, digest, graph_parts
from mebns_pl.evaluation.negatives import AbstractEvalNegatives, HeartNegatives, RandomNegatives
from mebns_pl.graph.csr import Graph
from mebns_pl.graph.sparse import Features
from mebns_pl.keys import Key
from references.effort import examples

KEY = Key(0, "tests/cache")
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7]])
GRAPH = Graph.from_edges(EDGES[:, :5], 12, torch.eye(12))


class Counting(AbstractEvalNegatives):
    """Random negatives that count how often they are asked for."""

    def __init__(self, num_negatives: int = 4) -> None:
        self.inner = RandomNegatives(num_negatives)
        self.calls = 0

    def generate(self, positives: Tensor, graph: Graph, known_edges: Tensor, key: Key) -> Tensor:
        self.calls += 1
        return self.inner.generate(positives, graph, known_edges, key)


def ask(folder: Path, how: AbstractEvalNegatives, graph: Graph = GRAPH, key: Key = KEY, last: int = 7) -> Tensor:
    return CachedNegatives(how, folder).generate(EDGES[:, 5:last], graph, EDGES, key)


def once(folder: Path) -> tuple[Tensor, Path]:
    made = ask(folder, RandomNegatives(4))
    (path,) = folder.iterdir()
    return made, path


def test_the_second_time_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = once(tmp_path)
    assert torch.equal(made, RandomNegatives(4).generate(EDGES[:, 5:], GRAPH, EDGES, KEY))
    monkeypatch.setattr(RandomNegatives, "generate", None)
    again = ask(tmp_path, RandomNegatives(4))
    assert torch.equal(again, made)
    assert again.dtype == torch.int64


def test_the_default_folder_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path))
    CachedNegatives(RandomNegatives(4)).generate(EDGES[:, 5:], GRAPH, EDGES, KEY)
    assert len(list((tmp_path / "negatives").iterdir())) == 1


def test_everything_that_decides_is_in_the_name(tmp_path: Path) -> None:
    sparse = Graph.from_edges(EDGES[:, :5], 12, Features.of(torch.eye(12).to_sparse()))
    other_x = Graph.from_edges(EDGES[:, :5], 12, torch.eye(12) * 2)
    calls = [
        lambda: ask(tmp_path, RandomNegatives(4)),
        lambda: ask(tmp_path, RandomNegatives(6)),
        lambda: ask(tmp_path, HeartNegatives(2)),
        lambda: ask(tmp_path, HeartNegatives(2, alpha=0.2)),
        lambda: ask(tmp_path, HeartNegatives(2, eps=1e-3)),
        lambda: ask(tmp_path, RandomNegatives(4), key=Key(1, "tests/cache")),
        lambda: ask(tmp_path, RandomNegatives(4), last=6),
        lambda: ask(tmp_path, RandomNegatives(4), Graph.from_edges(EDGES[:, :4], 12, torch.eye(12))),
        lambda: ask(tmp_path, RandomNegatives(4), Graph.from_edges(EDGES[:, :5], 12)),
        lambda: ask(tmp_path, RandomNegatives(4), sparse),
        lambda: ask(tmp_path, RandomNegatives(4), other_x),
        lambda: CachedNegatives(RandomNegatives(4), tmp_path).generate(EDGES[:, 5:], GRAPH, EDGES[:, 1:], KEY),
    ]
    for number, call in enumerate(calls, start=1):
        call()
        assert len(list(tmp_path.iterdir())) == number
    for call in calls:
        call()
    assert len(list(tmp_path.iterdir())) == len(calls)


def test_edges_left_out_and_texts_count(tmp_path: Path) -> None:
    assert digest(graph_parts(GRAPH)) != digest(graph_parts(GRAPH.without(EDGES[:, :1])))
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest([torch.zeros(2, 3)]) != digest([torch.zeros(3, 2)])
    assert "alpha=0.15" in describe(HeartNegatives())


BREAK = {
    "cut short": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "junk": lambda raw: b"\x00\xff junk" * 40,
    "one byte changed": lambda raw: raw[:150] + bytes([raw[150] ^ 0x55]) + raw[151:],
}


@pytest.mark.parametrize("damage", list(BREAK))
def test_a_damaged_file_is_found_and_made_anew(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made, path = once(tmp_path)
    sound = path.read_bytes()
    path.write_bytes(BREAK[damage](sound))
    with caplog.at_level(logging.WARNING):
        assert torch.equal(ask(tmp_path, RandomNegatives(4)), made)
    assert f"{path}: damaged" in caplog.text
    caplog.clear()
    assert torch.equal(ask(tmp_path, RandomNegatives(4)), made)
    assert not caplog.text
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=examples(30))
@given(place=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_no_changed_byte_changes_the_result(place: int, flip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cache")
    made, path = once(folder)
    raw = bytearray(path.read_bytes())
    raw[place % len(raw)] ^= flip
    path.write_bytes(bytes(raw))
    assert torch.equal(ask(folder, RandomNegatives(4)), made)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    """Not even where the checksum fits."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    made, path = once(tmp_path)
    buffer = io.BytesIO()
    np.savez(buffer, negatives=np.array([Bomb()], dtype=object))
    contents = buffer.getvalue()
    path.write_bytes(hashlib.blake2b(contents, digest_size=16).digest() + contents)
    assert torch.equal(ask(tmp_path, RandomNegatives(4)), made)
    assert not (tmp_path / "exploded").exists()


def test_a_failure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, Tensor]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        cached(["a"], fail, tmp_path / "sub")
    assert not list(tmp_path.rglob("*.*"))

    def half_written(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", half_written)
    assert ask(tmp_path, RandomNegatives(4)).shape == (2, 2, 4)
    assert not list(tmp_path.rglob("*.*"))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    counting = Counting()
    with caplog.at_level(logging.WARNING):
        ask(tmp_path / "file", counting)
    assert counting.calls == 1
    assert "cannot be written" in caplog.text


def test_large_numbers_keep_their_values(tmp_path: Path) -> None:
    for value in (2**40, 5):
        made = {"negatives": torch.tensor([[value], [1]])}
        assert torch.equal(cached([str(value)], lambda made=made: made, tmp_path)["negatives"], made["negatives"])
        assert torch.equal(cached([str(value)], dict, tmp_path)["negatives"], made["negatives"])
