"""docs/coming_from_pyg.md runs as it stands there, with fewer epochs: its Python, and the same run from its YAML."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from torch_geometric.nn import GraphSAGE

import mebns_pl
from mebns_pl.models.encoder_decoder import EncoderDecoder
from mebns_pl.models.pyg import PyGEncoder
from references.runs import ALL_WARM_UP, command_line_parser, equal, weights

PAGE = (Path(__file__).parent.parent / "docs" / "coming_from_pyg.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


@ALL_WARM_UP
@pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval")
def test_the_page_runs_from_python_and_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example, changed = re.subn(
        r"max_epochs=\d+", "enable_progress_bar=False, accelerator='cpu', max_epochs=2", "".join(blocks("python"))
    )
    assert changed == 1
    example, changed = re.subn(
        r'\{"trainer.max_epochs": \d+\}',
        '{"trainer.max_epochs": 1, "trainer.accelerator": "cpu", "trainer.enable_progress_bar": "false"}',
        example,
    )
    assert changed == 1
    names: dict = {}
    exec(example, names)
    assert len(names["links"]) == 100
    system, data = names["system"], names["data"]
    assert isinstance(system.student.encoder, PyGEncoder)
    assert isinstance(system.student.encoder.module, GraphSAGE)
    best = torch.load(names["best"].best_model_path, weights_only=True)["state_dict"]
    assert equal(best, weights(system))
    assert data.loaded.node_names == names["routes"].node_names

    Path("sage.yaml").write_text(*blocks("yaml"))
    parser = command_line_parser()
    made = parser.instantiate_classes(parser.parse_args(["fit", "-c", "sage.yaml", "--trainer.logger=false"])).fit
    assert type(made.model) is type(system)
    assert isinstance(made.model.student, EncoderDecoder)
    assert {name: value.shape for name, value in weights(made.model).items()} == {
        name: value.shape for name, value in best.items()
    }


def test_names_of_its_table_are_there() -> None:
    (table,) = re.findall(r"\| in PyG \|.*?\n\n", PAGE, flags=re.DOTALL)
    found = set()
    for row in table.splitlines()[2:]:
        for code in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2]):
            found.update(re.findall(r"\b(?:[A-Z]\w+|[a-z]+_links|load_run)\b(?![.:])", code))
    assert len(found) > 12
    for name in found - {"Trainer"}:
        if not hasattr(mebns_pl, name):
            assert hasattr(importlib.import_module("mebns_pl.negatives.proposals.uniform"), name), name
