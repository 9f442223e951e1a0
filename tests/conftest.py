"""What all tests share: the data folder, a tiny graph, and settings that make runs repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from mebns_pl.cli.main import MeBNSCLI
from mebns_pl.graph.csr import Graph
from references.effort import examples

REPOSITORY = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"

os.environ.setdefault("MPLBACKEND", "Agg")
# Tests run in several processes, and small tensors gain nothing from threads.
torch.set_num_threads(1)
# No deadline: a first call may compile a kernel. Under CI the examples are the same in every run.
settings.register_profile("mebns", deadline=None, derandomize=CI, max_examples=examples(100))
settings.load_profile("mebns")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of graph data: MEBNS_DATA, else ``../shared/data`` beside the repository."""
    root = Path(os.environ.get("MEBNS_DATA") or REPOSITORY.parent / "shared" / "data")
    if root.is_dir():
        return root
    reason = f"no graph data at {root}; set MEBNS_DATA to the data folder"
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _parsers_made_once() -> Iterator[None]:
    """The command line's parsers are those of the first run: building them takes as long as a small run."""
    make, kept = MeBNSCLI.setup_parser, {}

    def setup_parser(self: MeBNSCLI, *args: Any) -> None:
        if not kept:
            before = set(vars(self))
            make(self, *args)
            kept.update({name: value for name, value in vars(self).items() if name not in before})
        vars(self).update(kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeBNSCLI, "setup_parser", setup_parser)
        yield


def make_tiny_graph(dtype: torch.dtype = torch.float32) -> Graph:
    """30 nodes, 8 features, always the same: a ring with 30 chords, and node 29 without any edge."""
    generator = torch.Generator().manual_seed(0)
    ring = torch.arange(29)
    ring_edges = torch.stack([ring, (ring + 1) % 29])
    source = torch.randint(29, (30,), generator=generator)
    chords = torch.stack([source, (source + torch.randint(2, 27, (30,), generator=generator)) % 29])
    x = torch.randn(30, 8, generator=generator, dtype=torch.float64).to(dtype)
    return Graph.from_edges(torch.cat([ring_edges, chords], dim=1), num_nodes=30, x=x)


@pytest.fixture
def tiny_graph() -> Graph:
    """The tiny graph with float32 features."""
    return make_tiny_graph()


@pytest.fixture
def tiny_graph_double() -> Graph:
    """The tiny graph with the same features in float64, for gradient checks."""
    return make_tiny_graph(torch.float64)
