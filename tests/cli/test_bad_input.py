"""Bad input on the command line: one line that says what is wrong, a status that is not 0, and nothing written."""

from __future__ import annotations

import errno
import os
import resource
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
import torch.multiprocessing
import yaml

from mebns_pl import Plain
from mebns_pl.cli import main as cli
from mebns_pl.cli.messages import OneLineParser, _RefusedError
from mebns_pl.errors import DataError
from mebns_pl.files import locked
from references.processes import output_of
from references.runs import command_line_parser

RING = [(i, (i + step) % 30) for i in range(30) for step in (1, 2)]
GOOD_EDGES = "source,target\n" + "".join(f"n{u},n{v}\n" for u, v in RING)
GOOD_NODES = "node,age,kind\n" + "".join(f"n{i},{i}.5,{'ab'[i % 2]}\n" for i in range(30))
PAIRS = np.array(RING)
QUIET = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write into the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEBNS_DEBUG", raising=False)
    monkeypatch.delenv("MEBNS_DATA", raising=False)
    monkeypatch.setenv("MEBNS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module", autouse=True)
def _parsed_once() -> Iterator[None]:
    """Parsing the same arguments again takes longer than all the rest."""
    parse, kept = cli.MeBNSCLI.parse_arguments, {}

    def parse_arguments(self: cli.MeBNSCLI, parser: object, args: list[str]) -> None:
        files = [Path(name).read_bytes() for name in args if name.endswith(".yaml") and Path(name).exists()]
        key = (*args, *files)
        if key not in kept:
            parse(self, parser, args)
            kept[key] = self.config
        self.config = kept[key].clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.MeBNSCLI, "parse_arguments", parse_arguments)
        yield


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def refused(capsys: pytest.CaptureFixture[str], args: list[str], *parts: str, status: int = 1) -> str:
    """Runs the command line, which must refuse its input; gives the message back."""
    before = files()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.run(args)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == status
    assert "Traceback" not in "".join(lines), "\n".join(lines)
    told = [line for line in lines if line.startswith("mebns: error: ")]
    assert len(told) == 1, lines
    assert lines[-1] == told[0]
    for part in parts:
        assert part in told[0]
    assert files() == before
    return told[0]


def changed(old: str, new: str) -> str:
    assert old in GOOD_EDGES
    return GOOD_EDGES.replace(old, new, 1)


EDGE_LISTS: dict[str, tuple[str | bytes, list[str]]] = {
    "unknown node": (changed("n3,n4", "n3,nobody"), ["edges.csv, line 8", "'nobody'", "nodes.csv", "30 names"]),
    "fraction for an integer": (changed("n3,n4", "n3,n4.0"), ["line 8", "'n4.0'", "'n4' among them"]),
    "ragged, short": (changed("n3,n4\n", "n3\n"), ["edges.csv, line 8", "1 fields", "every line must have 2"]),
    "ragged, long": (changed("n3,n4\n", "n3,n4,1\n"), ["edges.csv, line 8", "3 fields", "every line must have 2"]),
    "cut off in a line": (GOOD_EDGES[: GOOD_EDGES.rindex(",")], ["edges.csv, line 61", "1 fields"]),
    "cut off in a quote": (changed("n3,n4\n", 'n3,"n4\n'), ["edges.csv, line", "unexpected end of data"]),
    "empty": ("", ["edges.csv", "the file is empty", "at least 1 line"]),
    "header only": ("source,target\n", ["edges.csv", "at least 1 line below the header"]),
    "white space only": (" \n\n", ["edges.csv", "the file is empty"]),
    "binary": (bytes(range(256)), ["edges.csv", "not text (byte 128", "UTF-8"]),
    "NUL in a text": (changed("n3,n4", "n3,n\0"), ["edges.csv", "a NUL character", "UTF-8"]),
    "Latin-1": (changed("n3,n4", "n3,nä").encode("latin-1"), ["edges.csv", "not text (byte", "UTF-8"]),
    "UTF-16": (GOOD_EDGES.encode("utf-16"), ["edges.csv", "not text (byte 0", "UTF-8"]),
    "semicolons": (
        GOOD_EDGES.replace(",", ";"),
        ["edges.csv", "no column 'source'", "separated by semicolons", ".tsv"],
    ),
    "tabs": (GOOD_EDGES.replace(",", "\t"), ["edges.csv", "no column 'source'", "separated by tabs"]),
    "missing column": (GOOD_EDGES.replace("target", "to"), ["edges.csv", "no column 'target'", "['source', 'to']"]),
    "no header": (GOOD_EDGES.partition("\n")[2], ["edges.csv", "no column 'source'", "['n0', 'n1']"]),
    "column twice": ("source,target,target\na,b,c\n", ["edges.csv", "'target' stands twice", "must differ"]),
    "no name": (changed("n3,n4", "n3, "), ["edges.csv, line 8", "no name in column 2", "must not be empty"]),
    "self-loops only": ("source,target\nn1,n1\nn2,n2\n", ["edges.csv", "no edge", "in 2 lines", "at least 1"]),
}


@pytest.mark.parametrize("name", EDGE_LISTS)
def test_edge_lists(capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, parts = EDGE_LISTS[name]
    Path("edges.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    Path("nodes.csv").write_text(GOOD_NODES)
    refused(capsys, ["fit", "--data.graph=edges.csv", "--data.nodes=nodes.csv", *QUIET], *parts)


def node_change(old: str, new: str) -> str:
    assert old in GOOD_NODES
    return GOOD_NODES.replace(old, new, 1)


NODE_TABLES: dict[str, tuple[str | bytes, list[str]]] = {
    "NaN": (node_change("n7,7.5", "n7,nan"), ["nodes.csv, line 9", "column 'age' has 'nan'", "finite"]),
    "infinite": (node_change("n7,7.5", "n7,-inf"), ["nodes.csv, line 9", "column 'age' has '-inf'", "finite"]),
    "too great": (node_change("n7,7.5", "n7,1e300"), ["nodes.csv, line 9", "'1e300'", "float32"]),
    "no value": (node_change("n7,7.5", "n7,"), ["nodes.csv, line 9", "'age' has no value", "every node needs one"]),
    "a word among numbers": (node_change("n7,7.5", "n7,old"), ["nodes.csv, line 9", "'old'", "numbers only"]),
    "node twice": (node_change("n7,7.5", "n3,7.5"), ["nodes.csv, line 9", "'n3' is also on line 5", "stand once"]),
    "ragged": (node_change("n7,7.5,b", "n7,7.5"), ["nodes.csv, line 9", "2 fields", "must have 3"]),
    "missing column": (node_change("node,", "id,"), ["nodes.csv", "no column 'node'", "['id', 'age', 'kind']"]),
    "empty": ("", ["nodes.csv", "the file is empty"]),
    "binary": (b"\x89PNG\r\n\x1a\n\xff", ["nodes.csv", "not text", "UTF-8"]),
    "too many texts": (
        "node,name\n" + "".join(f"n{i},t{i}\n" for i in range(300)),
        ["nodes.csv", "'name' has 300 different texts", "at most 256"],
    ),
}


@pytest.mark.parametrize("name", NODE_TABLES)
def test_node_tables(capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, parts = NODE_TABLES[name]
    Path("edges.csv").write_text(GOOD_EDGES)
    Path("nodes.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    refused(capsys, ["fit", "--data.graph=edges.csv", "--data.nodes=nodes.csv", *QUIET], *parts)


def save_npz(**arrays: np.ndarray) -> Callable[[], str]:
    def write() -> str:
        np.savez("g.npz", **arrays)
        return "g.npz"

    return write


def save_bytes(name: str, content: bytes) -> Callable[[], str]:
    def write() -> str:
        Path(name).write_bytes(content)
        return name

    return write


def save_half(save: Callable[[], str]) -> Callable[[], str]:
    def write() -> str:
        path = Path(save())
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path.name

    return write


def save_parquet(**columns: object) -> Callable[[], str]:
    def write() -> str:
        pd.DataFrame(columns).to_parquet("g.parquet")
        return "g.parquet"

    return write


def save_pt(item: object) -> Callable[[], str]:
    def write() -> str:
        torch.save(item, "g.pt")
        return "g.pt"

    return write


OTHER_FILES: dict[str, tuple[Callable[[], str], list[str]]] = {
    "negative id": (save_npz(edges=PAIRS - 1), ["g.npz, key 'edges', pair 0", "[-1, 0]", "0 ..."]),
    "fractional id": (save_npz(edges=PAIRS + 0.5), ["g.npz, key 'edges'", "float64", "allowed are integers"]),
    "64-bit id": (
        save_npz(edges=np.array([[0, 1], [1, 2**63 + 1]], dtype=np.uint64)),
        ["g.npz, key 'edges', pair 1", "9223372036854775809", "0 ..."],
    ),
    "id beyond num_nodes": (
        save_npz(edges=PAIRS, num_nodes=np.array(20)),
        ["g.npz, key 'edges', pair", "0 ... 19"],
    ),
    "objects": (save_npz(edges=np.array([[10**30, 1]], dtype=object)), ["g.npz, key 'edges'", "cannot be read"]),
    "npz cut off": (save_half(save_npz(edges=PAIRS)), ["g.npz", "cut off"]),
    "npz that is a text": (save_bytes("g.npz", GOOD_EDGES.encode()), ["g.npz", "no .npz archive"]),
    "infinite features": (
        save_npz(edges=PAIRS, x=np.full((30, 2), np.inf)),
        ["g.npz, key 'x', row 0, column 0", "inf", "finite"],
    ),
    "pt of a list": (save_pt([1, 2]), ["g.pt", "got list", "PyG's Data"]),
    "pt cut off": (save_half(save_pt({"edge_index": torch.tensor(RING).t()})), ["g.pt", "cannot be loaded"]),
    "pt with fractional ids": (save_pt({"edge_index": torch.rand(2, 9)}), ["g.pt, edge_index", "float32", "integers"]),
    "parquet cut off": (save_half(save_parquet(source=["a"] * 9, target=["b"] * 9)), ["g.parquet", "cannot be read"]),
    "parquet with fractional ids": (
        save_parquet(source=[0.5, 1.5], target=[1.0, 2.0]),
        ["g.parquet", "'source' is of type double", "integers and texts"],
    ),
    "parquet without a column": (save_parquet(source=[1, 2], to=[2, 3]), ["g.parquet", "'target'", "['source', 'to']"]),
    "graphml of no XML": (save_bytes("g.graphml", b"<graphml"), ["g.graphml, line 1", "no well-formed XML"]),
    "gzip cut off": (save_bytes("edges.csv.gz", b"\x1f\x8b\x08\x00"), ["edges.csv.gz", "cannot be read"]),
    "unknown suffix": (save_bytes("g.xlsx", b"PK"), ["g.xlsx: suffix '.xlsx'", "allowed are .csv"]),
    "no such file": (lambda: "none.csv", ["none.csv: no such file"]),
    "a folder": (lambda: (Path("g.csv").mkdir(), "g.csv")[1], ["g.csv: no file in this folder ends in .csv"]),
    "no such graph": (lambda: "corra", ["graph: got 'corra'", "air_routes, cora"]),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files(capsys: pytest.CaptureFixture[str], name: str) -> None:
    write, parts = OTHER_FILES[name]
    refused(capsys, ["fit", f"--data.graph={write()}", *QUIET], *parts)


def complete(num_nodes: int, left_out: int = 0) -> str:
    pairs = [(u, v) for u in range(num_nodes) for v in range(u)][left_out:]
    return "source,target\n" + "".join(f"{u},{v}\n" for u, v in pairs)


GRAPHS: dict[str, tuple[str, list[str], list[str]]] = {
    "too few edges": ("source,target\na,b\nb,c\n", [], ["edges: got 2", "at least 20 are needed"]),
    "every node linked to every other": (
        complete(10), ["--data.split.val=0.05"], ["is linked to all other 9 nodes", "an end of a positive"],
    ),
    "no non-edge to compare with": (
        complete(10),
        ["--data.protocol=Protocol", "--data.protocol.parting=mebns_pl.evaluation.protocols.RandomParting",
         "--data.protocol.comparison=mebns_pl.evaluation.protocols.UniformComparison"],
        ["all pairs of the 10 nodes are edges", "at least one non-edge is needed"],
    ),
    "no times": (
        complete(10),
        ["--data.protocol=Protocol", "--data.protocol.parting=mebns_pl.evaluation.protocols.TimeParting",
         "--data.protocol.comparison=mebns_pl.evaluation.protocols.UniformComparison"],
        ["its edges carry no times"],
    ),
    "times that are none": (GOOD_EDGES, ["--data.time_column=since"], ["edges.csv", "no column 'since'"]),
    "no meta edges": (GOOD_EDGES, ["--data.split.meta=0"], ["split.meta", "MeBNS needs meta edges", "above 0"]),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_cannot_be_learned_from(capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, args, parts = GRAPHS[name]
    Path("edges.csv").write_text(content)
    stage = "test" if "non-edge" in name else "fit"
    refused(capsys, [stage, "--data.graph=edges.csv", *args, *(QUIET if stage == "fit" else QUIET[:1])], *parts)


ARGUMENTS: list[tuple[list[str], list[str], int]] = [
    (["--model.sampler.num_candidates=0"], ["num_candidates", "1 or more", "got 0"], 1),
    (["--model.sampler.num_candidates=1.5"], ["model.sampler.num_candidates: got '1.5'; allowed is an integer"], 2),
    (["--data.num_workers=-1"], ["num_workers", "0 or more", "got -1"], 1),
    (["--data.split.val=2"], ["split.val: got 2.0", "[0, 1)"], 1),
    (["--data.split.val=0.6", "--data.split.test=0.5"], ["split.val + split.test: got 0.6 + 0.5", "below 1"], 1),
    (["--data.time_column=when"], ["time_column: got 'when'", "'air_routes'"], 1),
    (["--data.nodes=nodes.csv"], ["nodes: a node table goes with an edge list", "air_routes"], 1),
    (
        ["--model.sampler.proposal=DegreeProposal", "--model.sampler.proposal.power=-1"],
        ["power", "[0, inf)", "got -1.0"],
        1,
    ),
    (["--model=Plan"], ["model: got 'Plan'", "Heuristic, MeBNS, Plain"], 2),
    (["--model=Heuristic"], ["a Heuristic learns nothing and cannot fit", "validate, test and predict"], 1),
    (
        ["--model.sampler.selector=HardestSelektor"],
        ["model.sampler.selector: got 'HardestSelektor'", "FirstSelector, FunctionSelector, HardestSel"],
        2,
    ),
    (["--model.predictor=EncoderDecodr"], ["model.predictor: got 'EncoderDecodr'", "EncoderDecoder, "], 2),
    (
        ["--model.predictor.encoder=GNC"],
        ["model.predictor.encoder: got 'GNC'", "GAT, GCN, LinearGCN, PyGEncoder, SAGE or the import path of a module"],
        2,
    ),
    (["--model.optimizer=RMSprop"], ["optimizer: the bilevel step can look ahead through SGD, Adam", "RMSprop"], 1),
    (["--model.optimizer=Adam", "--model.optimizer.lr=x"], ["model.optimizer.lr: got 'x'; allowed is a number"], 2),
    (["--model.optimizer.learning_rate=1"], ["model.optimizer: ", "'learning_rate'", "allowed are lr, "], 2),
    (["--model.schedule.warmpu=1"], ["model: ", "--schedule.warmpu=1", "did you mean schedule.warmup?"], 2),
    (["--model.schedule.warmup=-1"], ["schedule.warmup", "a whole number of epochs, 0 or more", "got -1"], 1),
    (["--data.proposal=DegreeProposal"], ["--data.proposal=DegreeProposal", "did you mean model.sampler.proposal?"], 2),
    (["--model.selector=HardestSelector"], ["'selector' is not accepted", "did you mean model.sampler.selector?"], 2),
    (["--data.num_candidates=3"], ["--data.num_candidates=3", "did you mean model.sampler.num_candidates?"], 2),
    (["--data.batchsize=3"], ["--data.batchsize=3", "did you mean data.batch_size?"], 2),
    (["--trainer.max_epoch=3"], ["--trainer.max_epoch=3", "did you mean trainer.max_epochs?"], 2),
    (["--trainer.precision=13"], ["trainer.precision: got '13'", "64, 32, 16"], 2),
    (["--trainer.precision=16-true"], ["trainer.precision: expected one of 32-true, 64-true", "got 16-true"], 1),
    (["--trainer.check_val_every_n_epoch=0"], ["trainer.check_val_every_n_epoch: got 0", "1 or more"], 1),
    (["--trainer.accelerator=warp"], ["trainer, with accelerator 'warp' and devices 1: ", "cpu"], 1),
    (["--trainer.devices=0"], ["trainer, with accelerator 'cpu' and devices '0': ", "not a valid input"], 1),
    (["--trainer.gradient_clip_val=1"], ["gradient_clip_val: expected null", "model.updates.gradient_clip_norm"], 1),
    (["--seed_everything=-1"], ["seed_everything: got -1", "0 ... 4,294,967,295"], 2),
    (["--data.seed=3"], ['Linked "data.seed" must be given via "seed_everything"'], 2),
    (["--last_checkpoint.dirpath=x"], ["checkpoint.dirpath --> last_checkpoint.dirpath", "'x'"], 2),
    (["--ckpt_path=none.ckpt"], ["ckpt_path: no such file: 'none.ckpt'"], 1),
    (["--ckpt_path=last"], ["ckpt_path: got 'last', and there is no such checkpoint", "`mebns fit --resume`"], 1),
    (["--ckpt_path=best", "--checkpoint.dirpath=here"], ["ckpt_path: got 'best'", "allowed is a file"], 1),
    (["--ckpt_path=hpc", "--trainer.logger=false"], ["ckpt_path: got 'hpc'"], 1),
    (["--ckpt_path=last.ckpt"], ["ckpt_path: no such file: 'last.ckpt'"], 1),
    (["--modl=Plain"], ["--modl=Plain", "did you mean model?"], 2),
    (["--migration.probesize=30"], ["--migration.probesize=30", "did you mean migration.probe_size?"], 2),
    (["stray"], ["unrecognized arguments: stray", "--help"], 2),
    (["-c", "none.yaml"], ["none.yaml: no such file"], 1),
]  # fmt: skip


@pytest.mark.parametrize(("args", "parts", "status"), ARGUMENTS, ids=lambda value: str(value)[:60])
def test_arguments(capsys: pytest.CaptureFixture[str], args: list[str], parts: list[str], status: int) -> None:
    refused(capsys, ["fit", *QUIET, *args], *parts, status=status)


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["fitt"], "invalid choice: 'fitt'", "'fit', 'validate', 'test', 'predict'", status=2)
    refused(capsys, [], "{fit,validate,test,predict", status=2)
    refused(capsys, ["predict", "--predictions.path=links.txt", QUIET[0]], "path", ".csv", "'links.txt'")
    refused(capsys, ["predict", "--predictions.top_k=0", QUIET[0]], "top_k", "1 or more", "got 0")


CONFIGS = {
    "no YAML": (b"data: [", ["bad.yaml, line 1", "no YAML"]),
    "no text": (b"\x00\xff", ["bad.yaml", "not text (byte 1", "UTF-8"]),
    "empty": (b"", ["bad.yaml", "the file is empty", "`data:`"]),
    "a list": (b"- 1", ["bad.yaml", "got '[1]'", "`data:`"]),
    "a number for a section": (b"data: 3", ["bad.yaml: data: got '3'", "options below it"]),
    "a number for a part": (b"data: {split: 3}", ["bad.yaml: data.split: got '3'", "options below it"]),
    "a number for init_args": (b"model: {class_path: MeBNS, init_args: 3}", ["bad.yaml: model.init_args: got '3'"]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_files(capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, parts = CONFIGS[name]
    Path("bad.yaml").write_bytes(content)
    refused(capsys, ["fit", "-c", "bad.yaml", *QUIET], *parts)


PLAIN = ["--model=Plain", "--data.graph=edges.csv", *QUIET, "--data.eval_negatives=RandomNegatives"]


def test_folders_that_cannot_be_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    """A file where a folder should be refuses everybody, the superuser too."""
    Path("edges.csv").write_text(GOOD_EDGES)
    Path("file").write_text("")
    logger = "--trainer.logger=CSVLogger"
    allowed = "allowed is a folder that can be written to"
    told = refused(capsys, ["fit", *PLAIN, logger, "--trainer.logger.save_dir=file/logs"], "trainer.logger", allowed)
    assert "'file/logs/" in told
    refused(capsys, ["fit", *PLAIN, "--checkpoint.dirpath=file"], "checkpoint.dirpath", "'", "Not a directory", allowed)
    places = ["--predictions.path=file/links.csv", "--trainer.logger=false", QUIET[0], "--model=Heuristic"]
    refused(capsys, ["predict", *places], "predictions.path", "'file'", "Not a directory", allowed)


def test_a_run_in_progress_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("edges.csv").write_text(GOOD_EDGES)
    run = Path("logs/mebns/version_0")
    logger = ["--trainer.logger.save_dir=logs", "--trainer.logger.name=mebns", "--trainer.logger.version=0"]
    told = f"{run.resolve()}: in use by process {os.getpid()} on "
    with locked(run):
        refused(capsys, ["fit", *PLAIN, "--trainer.logger=CSVLogger", *logger], told, "wait for its end")
    with locked("here"):
        places = ["--trainer.logger=false", "--checkpoint.dirpath=here"]
        refused(capsys, ["fit", *PLAIN, *places], f"{Path('here').resolve()}: in use by process")


def test_a_full_disk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("edges.csv").write_text(GOOD_EDGES)
    monkeypatch.setattr("mebns_pl.cli.preflight.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    refused(capsys, ["fit", *PLAIN], "trainer.logger: 1,000 bytes are free in", "checkpoints need about")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mebns_pl.cli.preflight.os.fsync", full)
    refused(capsys, ["fit", *PLAIN], "trainer.logger: cannot write to 'logs/", "No space left on device")


def test_where_no_file_can_grow(capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on the size of files is met where a full disk is: when the bytes are written."""
    Path("edges.csv").write_text(GOOD_EDGES)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        told = refused(capsys, ["fit", *PLAIN], "trainer.logger: cannot write to 'logs/", "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.startswith("mebns: error: trainer.logger: ")


# What is accepted, and what is said of it

SPELLINGS = {
    "byte order mark": "\ufeff" + GOOD_EDGES,
    "mixed line ends": "".join(
        line + ("\n", "\r\n", "\r")[i % 3] for i, line in enumerate(GOOD_EDGES.splitlines())
    ),
    "quotes": "".join(",".join(f'"{name}"' for name in line.split(",")) + "\n" for line in GOOD_EDGES.splitlines()),
    "Unicode": GOOD_EDGES.replace("n1,", "\u6771\u4eac,"),
    "ids of any kind": GOOD_EDGES.replace("n1,", "-1,").replace("n2,", "2.5,").replace("n3,", f"{2**70},"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_that_are_accepted(capfd: pytest.CaptureFixture[str], name: str) -> None:
    Path("edges.csv").write_bytes(SPELLINGS[name].encode())
    cli.run(["validate", "--model=Heuristic", "--data.graph=edges.csv", QUIET[0], "--trainer.logger=false"])
    assert "mebns: error" not in capfd.readouterr().err


def test_what_is_dropped_or_drawn_again_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    few = "".join(f"n{i},n{j}\n" for i in range(10) for j in range(i) if (i, j) != (1, 0))
    Path("edges.csv").write_text("source,target\n" + few + "n1,n1\nn2,n2\nn2,n1\n")
    Path("nodes.csv").write_text("node\n" + "".join(f"n{i}\n" for i in range(12)))
    args = [
        "--data.nodes=nodes.csv",
        "--model.sampler.num_candidates=9",
        "--trainer.logger=false",
        "--trainer.max_epochs=2",
    ]
    cli.run(["fit", *PLAIN, *args, "--checkpoint.dirpath=here"])
    told = capsys.readouterr().err
    for part in (
        "2 self-loops dropped",
        "1 repeated edge dropped",
        "2 nodes without an edge, kept",
        "num_candidates: 9 are drawn for each anchor, with replacement; some have only",
    ):
        assert told.count(part) == 1, told


# As a user would: in a process of its own


def program(arguments: list[str]) -> None:
    """``python -m mebns_pl``, with standard output and error in files."""
    for name, number in (("out.txt", 1), ("err.txt", 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["mebns", *arguments]
    runpy.run_module("mebns_pl", run_name="__main__")


@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_in_a_process_of_its_own(fresh: bool) -> None:
    Path("edges.csv").write_text(GOOD_EDGES.replace("target", "to"))
    before = files()
    if fresh:
        env = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
        command = [sys.executable, "-m", "mebns_pl", "fit", "--data.graph=edges.csv"]
        run = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        code, said, told = run.returncode, run.stdout, run.stderr
    else:
        with pytest.raises(torch.multiprocessing.ProcessExitedException) as ended:
            output_of(program, ["fit", "--data.graph=edges.csv"], into=Path("main.txt"))
        code, said, told = (ended.value.exit_code, *(Path(name).read_text() for name in ("out.txt", "err.txt")))
        before |= {"main.txt", "out.txt", "err.txt"}
    assert code == 1
    assert "mebns: error: edges.csv: no column 'target'; the header has ['source', 'to']\n" in told
    assert "Traceback" not in told
    assert said == ""
    assert files() == before


def test_tracebacks_come_when_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MEBNS_DEBUG", "1")
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        cli.run(["fit", "--data.graph=none.csv", *QUIET])
    assert "mebns: error" not in capsys.readouterr().err


def test_there_are_enough_cases() -> None:
    groups = (EDGE_LISTS, NODE_TABLES, OTHER_FILES, GRAPHS, ARGUMENTS, CONFIGS)
    assert sum(map(len, groups)) >= 90


def test_faults_of_the_program_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        int("no number")

    monkeypatch.setattr(cli, "main", broken)
    with pytest.raises(ValueError, match="invalid literal"):
        cli.run(["fit"])


def test_a_fault_in_the_middle_of_a_run_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the first batch a value that is refused is the user's, from then on it is a fault."""
    Path("edges.csv").write_text(GOOD_EDGES)

    def broken(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(Plain, "training_step", broken)
    with pytest.raises(ValueError, match="^a fault$") as fault:
        cli.run(["fit", *PLAIN, "--trainer.logger=false", "--checkpoint.dirpath=here"])
    assert not isinstance(fault.value, DataError)


def test_what_is_refused_in_the_setup_of_a_run_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("edges.csv").write_text(GOOD_EDGES)
    args = ["predict", *PLAIN[:2], QUIET[0], "--predictions.scoring=CascadeScoring", "--trainer.logger=false"]
    refused(capsys, args, "scoring: CascadeScoring needs the teacher of a MeBNS system")


def test_null_is_taken_where_it_is_allowed() -> None:
    """Of an argument of a class, too, whose value goes through two parsers."""
    nulls = ["--model.teaching=OwnLearning", "--model.teaching.epochs=null", "--model.schedule.lr_scheduler=None"]
    model = command_line_parser().parse_args(["fit", "--model=MeBNS", *nulls]).fit.model.init_args
    assert model.teaching.init_args.epochs is model.schedule.lr_scheduler is None


def test_what_is_given_is_not_named_as_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the value is one of those allowed, and refused all the same, the parser's own reason is told."""

    class Choosy(OneLineParser):
        def _check_value_key(self, action: Any, value: Any, *args: Any, **options: Any) -> Any:
            if value == "a":
                raise _RefusedError(TypeError("not today"), action, "choice", value)
            return super()._check_value_key(action, value, *args, **options)

    parser = Choosy(prog="mebns")
    parser.add_argument("--choice", type=Literal["a", "b"])
    for value, told in (("a", "not today"), ("c", "choice: got 'c'; allowed is a or b")):
        with pytest.raises(SystemExit):
            parser.parse_object({"choice": value})
        assert capsys.readouterr().err == f"mebns: error: {told}\n"


def test_configurations_of_the_project_pass_the_check_of_their_form() -> None:
    from mebns_pl.cli.preflight import check_config_file

    paths = sorted((Path(cli.__file__).parents[2] / "configs").rglob("*.yaml"))
    assert len(paths) > 30
    for path in paths:
        check_config_file(path)
        assert isinstance(yaml.safe_load(path.read_text()), dict)
