"""Official splits: sizes as the data folder tells them, disjoint parts, and broken files refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mebns_pl.datasets import places
from mebns_pl.datasets.catalog import load_graph
from mebns_pl.datasets.official_splits import NAMES, load_official_split
from mebns_pl.datasets.readers import ogb
from mebns_pl.errors import DataError


def keys(pairs: torch.Tensor, num_nodes: int) -> torch.Tensor:
    return pairs.min(dim=0).values * num_nodes + pairs.max(dim=0).values


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("citeseer", (3_870, 227, 455, 227, 455)),
        ("pubmed", (37_676, 2_216, 4_432, 2_216, 4_432)),
        ("ogbl-ddi", (1_067_911, 133_489, 133_489, 101_882, 95_599)),
    ],
)
def test_sizes_and_edges_are_those_of_the_catalogue(data_root: Path, name: str, sizes: tuple[int, ...]) -> None:
    split, graph = load_official_split(name, data_root), load_graph(name, data_root)
    parts = (split.train, split.val, split.test, split.val_negatives, split.test_negatives)
    assert tuple(part.shape[1] for part in parts) == sizes
    assert all(part.dtype == torch.int64 for part in parts)
    assert split.num_nodes == graph.num_nodes
    edges = keys(graph.edges, graph.num_nodes)
    assert torch.equal(torch.cat([keys(part, graph.num_nodes) for part in parts[:3]]).sort().values, edges)
    for negatives in parts[3:]:
        assert not bool(torch.isin(keys(negatives, graph.num_nodes), edges).any())
    canonical = split.edge_split()
    assert canonical.meta.shape == (2, 0)
    assert torch.equal(keys(canonical.test, graph.num_nodes), keys(split.test, graph.num_nodes))
    assert bool((canonical.all[0] < canonical.all[1]).all())


def test_hard_negatives_belong_to_their_rows(data_root: Path) -> None:
    split = load_official_split("citeseer", data_root)
    assert split.metric == "mrr"
    for hard, positives in ((split.val_hard, split.val), (split.test_hard, split.test)):
        assert hard.shape == (2, positives.shape[1], 500)
        assert bool((hard[0, :, :250] == positives[0][:, None]).all())
        assert bool((hard[1, :, 250:] == positives[1][:, None]).all())
    raw = np.load(data_root / "heart" / "citeseer" / "heart_test_samples.npz")["samples"]
    assert split.test_hard[:, 7, 260].tolist() == raw[7, 260].tolist()
    assert load_official_split("pubmed", data_root).test_hard is None
    lines = (data_root / "heart" / "citeseer" / "test_pos.txt").read_text().splitlines()
    assert split.test[:, 7].tolist() == [int(end) for end in lines[7].split()]


def test_unknown_and_absent_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(places, "ogb_is_installed", lambda: False)
    for name, message in (
        ("usair", "no official split of 'usair'; there are those of cora, citeseer"),
        ("cora", str(tmp_path / "heart" / "cora")),
        ("ogbl-ddi", r"pip install 'mebns_pl[ogb]'"),
    ):
        with pytest.raises(DataError) as caught:
            load_official_split(name, tmp_path)
        assert message in str(caught.value)
    assert set(NAMES) == {"cora", "citeseer", "pubmed", *ogb.NAMES}


@pytest.fixture
def heart(data_root: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "heart" / "citeseer"
    shutil.copytree(data_root / "heart" / "citeseer", folder)
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o755)
    return folder


def refused(root: Path, name: str, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        load_official_split(name, root)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        ("valid_pos.txt", lambda text: text.replace("\n", "\n1 x\n", 1), ["valid_pos.txt, line 2", "'1 x'"]),
        ("test_neg.txt", lambda text: text + "1\t3327\n", ["test_neg.txt, line 456", "0 ... 3,326"]),
        ("train_neg.txt", lambda text: "", ["train_neg.txt", "empty"]),
        ("train_pos.txt", lambda text: None, ["train_pos.txt: no such file"]),
        ("valid_pos.txt", lambda text: text[: len(text) // 2], ["heart_valid_samples.npz", "(227, 500, 2)"]),
        (
            "test_pos.txt",
            lambda text: "\n".join(text.splitlines()[::-1]),
            ["heart_test_samples.npz", "row 0", "ends of"],
        ),
    ],
)
def test_broken_split_files_are_refused(heart: Path, name: str, change, parts: list[str]) -> None:
    path = heart / name
    text = change(path.read_text())
    path.unlink() if text is None else path.write_text(text)
    refused(heart.parents[1], "citeseer", *parts)


def test_a_leak_between_parts_is_refused(heart: Path) -> None:
    with (heart / "train_pos.txt").open("a") as file:
        file.write((heart / "test_pos.txt").read_text().splitlines()[0] + "\n")
    refused(heart.parents[1], "citeseer", "1 edges are in both train and test")


def test_broken_hard_negatives_are_refused(heart: Path) -> None:
    path = heart / "heart_valid_samples.npz"
    samples = np.load(path)["samples"]
    for broken, part in (
        ({"sample": samples}, "no key 'samples'"),
        ({"samples": samples.astype(float)}, "float64"),
        ({"samples": samples[:5]}, "(5, 500, 2)"),
        ({"samples": samples[..., 0]}, "(227, 500)"),
        ({"samples": samples + 3000}, "0 ... 3,326"),
        ({"samples": samples[::-1]}, "row 0"),
        ({"samples": samples.astype(object)}, "key 'samples': cannot be read"),
    ):
        np.savez(path, **broken)
        refused(heart.parents[1], "citeseer", "heart_valid_samples.npz", part)
    path.write_bytes(path.read_bytes()[:1000])
    refused(heart.parents[1], "citeseer", "heart_valid_samples.npz", "cut off")


def test_broken_ddi_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ogb").mkdir()
    edges = {f"{part}_edge": np.array([[i, i + 1]]) for i, part in enumerate(("train", "valid", "test"))}
    good = edges | {f"{part}_edge_neg": np.array([[0, 5]]) for part in ("valid", "test")} | {"num_nodes": np.array(6)}
    path = tmp_path / "ogb" / "ogbl_ddi.npz"
    np.savez(path, **good)
    assert load_official_split("ogbl-ddi", tmp_path).metric == "hits@20"
    for change, part in (
        ({"num_nodes": np.array(5)}, "key 'valid_edge_neg', row 0: got [0, 5]"),
        ({"train_edge": np.array([[-1, 1]])}, "key 'train_edge', row 0: got [-1, 1]"),
        ({"train_edge": np.array([[1, 2]])}, "1 edges are in both train and valid"),
        ({"test_edge": np.zeros((0, 2), int)}, "the test part has no edge"),
        ({"test_edge": np.array([[0.0, 1.0]])}, "key 'test_edge': got float64"),
    ):
        np.savez(path, **(good | change))
        refused(tmp_path, "ogbl-ddi", part)


def ogb_folder(root: Path, name: str, parts: dict[str, dict[str, object]]) -> Path:
    folder = root / "ogb" / name.replace("-", "_")
    (folder / "raw").mkdir(parents=True)
    place = folder / "split" / ogb.SPLITS[name]
    place.mkdir(parents=True)
    np.savetxt(folder / "raw" / "num-node-list.csv.gz", [6], fmt="%d")
    np.savetxt(folder / "raw" / "edge.csv.gz", [[0, 1], [1, 2]], fmt="%d", delimiter=",")
    for part, arrays in parts.items():
        torch.save(arrays, place / f"{part}.pt")
    return folder


def test_ogb_splits_with_shared_negatives_and_repeated_edges(tmp_path: Path) -> None:
    parts: dict[str, dict[str, object]] = {
        "train": {"edge": np.array([[0, 1], [1, 2]]), "year": np.array([2000, 2001])},
        "valid": {"edge": torch.tensor([[2, 1]]), "edge_neg": np.array([[0, 5], [0, 4]]), "year": np.array([2002])},
        "test": {"edge": np.array([[3, 4]]), "edge_neg": np.array([[2, 5]]), "year": np.array([2003])},
    }
    ogb_folder(tmp_path, "ogbl-collab", parts)
    split = load_official_split("ogbl-collab", tmp_path)
    assert (split.num_nodes, split.metric, split.val_hard) == (6, "hits@50", None)
    assert split.val_negatives.tolist() == [[0, 0], [5, 4]]
    assert "1 edges are in both train and valid" in split.notes
    graph = load_graph("ogbl-collab", tmp_path)
    assert graph.edges.tolist() == [[0, 1, 3], [1, 2, 4]]
    assert graph.num_nodes == 6


def test_ogb_splits_with_negatives_for_each_source(tmp_path: Path) -> None:
    ends = {"source_node": np.array([0]), "target_node": np.array([1])}
    held = {"source_node": np.array([2, 3]), "target_node": np.array([3, 1]), "target_node_neg": np.array([[4], [5]])}
    other = {"source_node": np.array([5]), "target_node": np.array([3]), "target_node_neg": np.array([[4]])}
    folder = ogb_folder(tmp_path, "ogbl-citation2", {"train": ends, "valid": held, "test": other})
    split = load_official_split("ogbl-citation2", tmp_path)
    assert split.val_hard.tolist() == [[[2], [3]], [[4], [5]]]
    assert split.test.tolist() == [[5], [3]]
    graph = load_graph("ogbl-citation2", tmp_path)
    assert graph.num_edges == 5
    assert any("directed: made undirected" in note for note in graph.notes)
    for arrays, message in (
        ({"source_node": np.array([2])}, "allowed are edge, or source_node and target_node"),
        (held | {"target_node_neg": np.array([[4]])}, "target_node_neg: got shape (1, 1)"),
        (held | {"target_node_neg": np.array([[4], [6]])}, "target_node_neg, row 1: got [3, 6]"),
        (held | {"target_node": np.array([np.nan, 1])}, "float64"),
        ([1, 2], "got list"),
    ):
        torch.save(arrays, folder / "split" / "time" / "valid.pt")
        refused(tmp_path, "ogbl-citation2", "valid", message)
