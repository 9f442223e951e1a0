"""A checkpoint of another version, model, graph or split is refused with what differs, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mebns_pl import GCN, SAGE, EncoderDecoder, MLPDecoder, Plain
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.datasets.loaded import LoadedGraph
from mebns_pl.datasets.split import SplitFractions
from mebns_pl.systems.checkpoint_io import CheckpointError
from mebns_pl.systems.identity import _PASSING, KEY, changed_options, describe_system, plain
from mebns_pl.systems.link_system import AbstractLinkSystem
from mebns_pl.types import GraphSpec
from references.runs import equal, fit, make_data, make_loaded, make_mebns, make_plain, make_trainer, weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "one.ckpt"
    data = make_data()
    fit(make_plain(data.spec), data, 1).save_checkpoint(path)
    return path


def other_graph(features: bool) -> LoadedGraph:
    loaded = make_loaded()
    assert isinstance(loaded.x, torch.Tensor)
    if features:
        return LoadedGraph("communities", loaded.edges, loaded.node_names, loaded.x * 2)
    edges = loaded.edges.clone()
    edges[1, 3] = 40
    return LoadedGraph("communities", edges, loaded.node_names, loaded.x)


def wider(spec: GraphSpec) -> EncoderDecoder:
    return EncoderDecoder(spec, partial(GCN, hidden_channels=24), partial(MLPDecoder, hidden_channels=16))


def of_another_kind(spec: GraphSpec) -> EncoderDecoder:
    return EncoderDecoder(spec, partial(SAGE, hidden_channels=16), partial(MLPDecoder, hidden_channels=16))


def more_dropout(spec: GraphSpec) -> EncoderDecoder:
    encoder, decoder = partial(GCN, hidden_channels=16, dropout=0.5), partial(MLPDecoder, hidden_channels=16)
    return EncoderDecoder(spec, encoder, decoder)


OTHERS: dict[str, tuple[Callable[[], LinkDataModule], Callable[[GraphSpec], AbstractLinkSystem], str]] = {
    "size": (
        lambda: make_data(make_loaded(features=False)),
        make_plain,
        r"graph.num_features: 5 there, 0 here",
    ),
    "edges": (lambda: make_data(other_graph(False)), make_plain, "graph: communities has other edges or features"),
    "features": (lambda: make_data(other_graph(True)), make_plain, "graph: communities has other edges or features"),
    "split": (
        lambda: make_data(split=SplitFractions(val=0.1, test=0.2, meta=0.15)),
        make_plain,
        r"split: train: \d+ there, \d+ here; test edges here may have been training edges there",
    ),
    "seed": (lambda: make_data(seed=1), make_plain, "split: its edges are others: another seed"),
    "system": (make_data, make_mebns, r"system: mebns_pl.systems.plain.Plain there, mebns_pl.systems.mebns.MeBNS here"),
    "width": (make_data, partial(make_plain, predictor=wider), r"model.student: .*16.* there, .*24.* here"),
    "encoder": (make_data, partial(make_plain, predictor=of_another_kind), r"model.student: .*GCN.*SAGE"),
    "dropout": (
        make_data,
        partial(make_plain, predictor=more_dropout),
        r"model.student: .*0\.1.* there, .*0\.5",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused(checkpoint: Path, name: str) -> None:
    make_other, make_system, message = OTHERS[name]
    data = make_other()
    system = make_system(data.spec)
    before = weights(system)
    with pytest.raises(CheckpointError, match=message) as error:
        make_trainer(2).fit(system, data, ckpt_path=str(checkpoint))
    assert str(checkpoint) in str(error.value)
    assert equal(before, weights(system))
    if name in ("split", "edges", "width"):
        with pytest.raises(CheckpointError, match=message):
            make_trainer().test(system, make_other(), ckpt_path=str(checkpoint), verbose=False)


def test_a_run_goes_on_with_the_same_seeds_only(checkpoint: Path, tmp_path: Path) -> None:
    def going_on(path: Path, **seeds: int) -> None:
        data = make_data(**seeds)
        data.split = make_data().split
        fit(make_plain(data.spec), data, 1, ckpt_path=str(path))

    with pytest.raises(CheckpointError, match="here. split_seed: 0 there, 1 here"):
        going_on(checkpoint, split_seed=1)
    with pytest.raises(CheckpointError, match="seed: 0 there, 1 here"):
        going_on(checkpoint, seed=1, split_seed=0)
    going_on(checkpoint, split_seed=0)
    # Of before there was a seed of the split
    going_on(changed(checkpoint, tmp_path, lambda found: found[KEY].pop("split_seed")))


def test_the_same_run_is_accepted_at_every_stage(checkpoint: Path) -> None:
    for stage in ("fit", "validate", "test", "predict"):
        data = make_data()
        system = make_plain(data.spec, seed=3)
        kwargs = {} if stage in ("fit", "predict") else {"verbose": False}
        getattr(make_trainer(1), stage)(system, data, ckpt_path=str(checkpoint), **kwargs)
        assert equal(weights(system), torch.load(checkpoint, weights_only=True)["state_dict"])


def changed(checkpoint: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    found = torch.load(checkpoint, weights_only=True)
    change(found)
    torch.save(found, folder / "changed.ckpt")
    return folder / "changed.ckpt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[KEY].update(version="99.3.0"), r"version: 99\.3\.0 wrote it, .* install mebns_pl 99\.3"),
        (lambda c: c[KEY].pop("format"), "format: 1 there, 2 here: parts go by other names now; train again"),
        (lambda c: c.pop(KEY), "does not say which model and graph it belongs to"),
    ],
)
def test_another_version_is_refused(
    checkpoint: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path, data = changed(checkpoint, tmp_path, change), make_data()
    with pytest.raises(CheckpointError, match=message):
        make_trainer(2).fit(make_plain(data.spec), data, ckpt_path=str(path))
    with pytest.raises(CheckpointError, match=message):
        Plain.load_from_checkpoint(path, spec=data.spec)


def test_another_patch_release_is_accepted(checkpoint: Path, tmp_path: Path) -> None:
    def patch(found: dict[str, Any]) -> None:
        major, minor, *_ = found[KEY]["version"].split(".")
        found[KEY]["version"] = f"{major}.{minor}.99"

    data = make_data()
    fit(make_plain(data.spec), data, 1, ckpt_path=str(changed(checkpoint, tmp_path, patch)))


def test_lightnings_own_loading_is_checked_too(checkpoint: Path) -> None:
    data = make_data()
    like = make_plain(data.spec)
    found = Plain.load_from_checkpoint(
        checkpoint, spec=data.spec, predictor=lambda spec: like.student, sampler=like.sampler
    )
    assert equal(weights(found), torch.load(checkpoint, weights_only=True)["state_dict"])
    with pytest.raises(CheckpointError, match=r"model\.student"):
        Plain.load_from_checkpoint(checkpoint, spec=data.spec, predictor=wider)


def test_what_a_checkpoint_says_is_plain(checkpoint: Path) -> None:
    said = torch.load(checkpoint, weights_only=True)[KEY]
    assert said["graph"] == {
        "name": "communities",
        "num_nodes": 41,
        "num_features": 5,
        "sparse": False,
        "edges": make_loaded().num_edges,
    }
    assert said["config"]["model"]["init_args"]["sampler"]["init_args"]["selector"]["init_args"] == {"num_negatives": 3}
    assert said["config"]["data"]["init_args"]["batch_size"] == 30
    assert said["config"]["data"]["init_args"]["split"]["init_args"]["meta"] == 0.15
    assert said["config"]["optimizers"][0]["init_args"]["lr"] == 0.03
    assert said["seed"] == 0


def test_going_on_with_other_options_is_said(checkpoint: Path) -> None:
    data = make_data()
    with pytest.warns(UserWarning, match=r"goes on with other options.*num_candidates: 5 before, 7 now"):
        fit(make_plain(data.spec, num_candidates=7), data, 1, ckpt_path=str(checkpoint))


def test_changed_options() -> None:
    before = {"from": "command line", "model": {"lr": 0.1}, "data": {"root": "a", "batch_size": 3}}
    now = {"from": "command line", "model": {"lr": 0.2}, "data": {"root": "b", "batch_size": 3}}
    assert changed_options(before, now) == ["model.lr: 0.1 before, 0.2 now"]
    assert changed_options(before, {**now, "from": "python"}) == []
    assert plain((1, Path("a"), {"b": torch.zeros(2)})) == [1, "a", {"b": "tensor of shape (2,)"}]
    assert plain([timedelta(minutes=10), torch.float64]) == ["0:10:00", "torch.float64"]


def test_layers_are_told_without_type_and_device() -> None:
    """Loading is checked before the trainer has put the weights where and as it wants them."""
    data = make_data()
    described = [describe_system(system) for system in (make_plain(data.spec), make_plain(data.spec).double())]
    assert described[0] == described[1]
    described[1] = describe_system(make_plain(data.spec).to("meta"))
    assert described[0] == described[1]
    on_device = "(0): Parameter containing: [torch.float32 of size 16 (cuda:0)]"
    assert _PASSING.sub("", on_device) == "(0): Parameter containing: [of size 16]"


def test_a_run_in_double_precision_goes_on(tmp_path: Path) -> None:
    data, path = make_data(), tmp_path / "double.ckpt"
    fit(make_plain(data.spec), data, 1, precision="64-true").save_checkpoint(path)
    system = make_plain(data.spec)
    fit(system, data, 2, ckpt_path=str(path), precision="64-true")
    whole = make_plain(data.spec)
    fit(whole, data, 2, precision="64-true")
    assert equal(weights(system), weights(whole))
