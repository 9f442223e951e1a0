"""Flips one bit of a file, reads it, and again: it must be refused in one line, made anew, or read as it was before.

The files are a checkpoint, graphs (``.npz``, ``.pt``, ``.mat``, ``.csv.gz``), evaluation negatives that are kept, a
run's ``config.yaml``, and a compiled function. What a flip changes where nothing is kept (the time of a file in an
archive, say) is read as before, which counts as right, too. A ``config.yaml`` may be changed by hand, so there it must
be told.

    python scripts/campaigns/flips.py                   # 500 of each
    python scripts/campaigns/flips.py --flips 20 --only checkpoint --only npz
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numba
import numpy as np
import pandas as pd
import scipy.io
import torch
import yaml
from lightning.pytorch import Trainer
from torch_geometric.data import Data

from forks import same, state
from mebns_pl import LastCheckpoint, LinkDataModule, Plain, RandomNegatives, kernels
from mebns_pl.cli.preflight import check_config_file
from mebns_pl.cli.seal import sealed
from mebns_pl.datasets.files import read_graph
from mebns_pl.errors import DataError
from mebns_pl.evaluation.negative_cache import cached
from mebns_pl.systems.checkpoint_io import AtomicCheckpointIO, CheckpointError

REFUSED = (DataError, CheckpointError)
NODES = 60


class Notes(logging.Handler):
    """Keeps the warnings that the package tells."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


Read = Callable[[Path], Any]


def edges() -> np.ndarray:
    pairs = [(u, (u + step) % NODES) for u in range(NODES) for step in (1, 2, 5)]
    return np.array(sorted((min(pair), max(pair)) for pair in pairs)).T


def features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((NODES, 8)).astype(np.float32)


def graph_read(path: Path) -> dict[str, Any]:
    graph = read_graph(path)
    return {"edges": graph.edges, "names": graph.node_names, "x": graph.x, "times": graph.times}


def checkpoint(folder: Path) -> tuple[Path, Read]:
    data = LinkDataModule(batch_size=800, eval_negatives=RandomNegatives(5))
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=1, callbacks=[LastCheckpoint(folder)], limit_val_batches=0, **options)
    trainer.fit(Plain(data.spec), data)
    return folder / "last.ckpt", AtomicCheckpointIO().load_checkpoint


def npz(folder: Path) -> tuple[Path, Read]:
    np.savez_compressed(folder / "g.npz", edge_index=edges(), x=features())
    return folder / "g.npz", graph_read


def stored_npz(folder: Path) -> tuple[Path, Read]:
    np.savez(folder / "g.npz", edge_index=edges(), x=features())
    return folder / "g.npz", graph_read


def pt(folder: Path) -> tuple[Path, Read]:
    torch.save(Data(edge_index=torch.from_numpy(edges()), x=torch.from_numpy(features())), folder / "g.pt")
    return folder / "g.pt", graph_read


def mat(folder: Path) -> tuple[Path, Read]:
    matrix = np.zeros((NODES, NODES))
    matrix[tuple(edges())] = matrix[tuple(edges()[::-1])] = 1
    scipy.io.savemat(folder / "g.mat", {"net": scipy.sparse.csc_matrix(matrix)}, do_compression=True)
    return folder / "g.mat", graph_read


def csv_gz(folder: Path) -> tuple[Path, Read]:
    pd.DataFrame(edges().T, columns=["source", "target"]).to_csv(folder / "g.csv.gz", index=False)
    return folder / "g.csv.gz", graph_read


def negatives(folder: Path) -> tuple[Path, Read]:
    made = torch.arange(2400).reshape(2, 30, 40) * 7919 % NODES
    # A file that is damaged is replaced by a whole one, so that nothing is refused
    cached(["negatives"], lambda: {"negatives": made}, folder)
    (path,) = folder.glob("*.cache")
    return path, lambda _: cached(["negatives"], lambda: {"negatives": made}, folder)


def config(folder: Path) -> tuple[Path, Read]:
    options = {"seed_everything": 3, "trainer": {"max_epochs": 100}, "data": {"graph": "air_routes", "batch_size": 512}}
    (folder / "config.yaml").write_text(sealed(yaml.safe_dump(options)))

    def read(path: Path) -> Any:
        check_config_file(path)
        return yaml.safe_load(path.read_text("utf-8"))

    return folder / "config.yaml", read


def compiled(folder: Path) -> tuple[Path, Read]:
    source = folder / "functions.py"
    source.write_text("from mebns_pl.kernels import kernel\n\n\n@kernel\ndef twice(x):\n    return 2 * x\n")
    numba.config.CACHE_DIR = str(folder / "cache")  # type: ignore[attr-defined]

    def read(_: Path) -> Any:
        kernels._told.clear()  # what is told once a process
        spec = importlib.util.spec_from_file_location("functions", source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.twice(21)

    read(source)
    (path,) = folder.rglob("*.nbc")
    return path, read


KINDS: dict[str, Callable[[Path], tuple[Path, Read]]] = {
    "checkpoint": checkpoint,
    "npz": npz,
    "stored npz": stored_npz,
    "pt": pt,
    "mat": mat,
    "csv.gz": csv_gz,
    "negatives": negatives,
    "config": config,
    "compiled": compiled,
}


def flipped(whole: bytes, dice: Random) -> bytes:
    place = dice.randrange(len(whole))
    return whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1 :]


def outcome(read: Callable[[], Any], expected: dict[str, Any], notes: Notes) -> str:
    """What came of reading: "refused", "told", "the same", or what is wrong."""
    notes.told.clear()
    try:
        found = dict(state(read()))
    except REFUSED as error:
        return "refused" if "\n" not in str(error) else f"WRONG: several lines: {error}"
    except Exception as error:
        return f"WRONG: {type(error).__name__}: {error}"
    if found.keys() == expected.keys() and all(same(found[name], value) for name, value in expected.items()):
        return "told" if notes.told else "the same"
    return "told" if notes.told else "WRONG: read as something else"


def campaign(kind: str, flips: int, seed: int, notes: Notes) -> Counter[str]:
    """How often each outcome came."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path, read = KINDS[kind](Path(folder))
        whole = path.read_bytes()
        expected = dict(state(read(path)))
        for number in range(flips):
            path.write_bytes(flipped(whole, Random(f"{seed}/{kind}/{number}")))
            came = outcome(partial(read, path), expected, notes)
            found[came] += 1
            if came.startswith("WRONG"):
                print(f"{kind}, flip {number}: {came}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the campaign; returns 0 when all is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=500, help="of each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=KINDS, help="a kind; again for more of them")
    given = parser.parse_args(arguments)
    logger, notes, wrong = logging.getLogger("mebns_pl"), Notes(), 0
    logger.addHandler(notes)
    logger.propagate = False
    try:
        for kind in given.only or KINDS:
            found = campaign(kind, given.flips, given.seed, notes)
            right = sum(found[came] for came in ("refused", "told", "the same"))
            wrong += given.flips - right
            how = ", ".join(f"{found[came]} {came}" for came in ("refused", "told", "the same"))
            print(f"{kind}: {given.flips} tried, {right} right ({how}), {given.flips - right} wrong", flush=True)
    finally:
        logger.removeHandler(notes)
        logger.propagate = True
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
