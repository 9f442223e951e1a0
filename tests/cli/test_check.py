"""``mebns check``, modules of one's own from YAML, and where they are looked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed

from mebns_pl.cli import main as cli
from mebns_pl.cli.own_code import look_here
from references.command_line import environment
from references.runs import command_line_parser

OWN = """
import torch
from torch import nn
from torch_geometric.nn import SAGEConv


class TwoSteps(nn.Module):
    def __init__(self, in_channels: int, hidden_channels: int = 16, dropout: float = 0.2):
        super().__init__()
        self.first, self.last = SAGEConv(in_channels, hidden_channels), SAGEConv(hidden_channels, hidden_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, edge_index):
        return self.last(self.dropout(self.first(x, edge_index).relu()), edge_index)


def any_node(graph, anchors, num_candidates, generator):
    return torch.randint(graph.num_nodes, (len(anchors), num_candidates), generator=generator)


def unsure(score, uniform):
    return -(score().sigmoid() - 0.5).abs() + 0.1 * uniform
"""
SAGE = "{class_path: torch_geometric.nn.GraphSAGE, init_args: {hidden_channels: 8, num_layers: 2, dropout: 0.1}}"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder, which is not among the paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(OWN)
    return name


def test_the_current_folder_is_looked_in_where_the_user_names_what_is_there(own: str) -> None:
    before = list(sys.path)
    look_here(["fit", "--model=Plain", "torch.optim.SGD"])
    assert sys.path == before
    look_here([f"--model.predictor.encoder={own}.TwoSteps"])
    assert sys.path == [*before, str(Path.cwd())]


@pytest.mark.parametrize("encoder", [SAGE, "OWN.TwoSteps"])
@pytest.mark.parametrize("predictor", ["EncoderDecoder", "NCN"])
def test_modules_are_named_in_yaml(own: str, encoder: str, predictor: str) -> None:
    Path("mine.yaml").write_text(
        f"model: {{class_path: mebns_pl.Plain, init_args: {{predictor: {{class_path: mebns_pl.{predictor}, "
        f"init_args: {{encoder: {encoder.replace('OWN', own)}}}}}, sampler: {{proposal: {{class_path: "
        f"mebns_pl.FunctionProposal, init_args: {{function: {own}.any_node}}}}, "
        f"selector: {{class_path: mebns_pl.FunctionSelector, init_args: {{function: {own}.unsure}}}}}}}}}}\n"
    )
    look_here([Path("mine.yaml").read_text()])
    parser = command_line_parser()
    made = parser.instantiate_classes(parser.parse_args(["fit", "-c", "mine.yaml"])).fit
    assert type(made.model.student.encoder).__name__ == "PyGEncoder"
    assert made.model.sampler.proposal.function.__name__ == "any_node"
    assert made.model.sampler.selector.function.__name__ == "unsure"


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        (
            "nowhere_at_all.Encoder",
            "got 'nowhere_at_all.Encoder': no module 'nowhere_at_all' in the current folder, on",
        ),
        ("torch_geometric.nn.ChebConv", "the following arguments are required: out_channels, K"),
    ],
)
def test_what_is_wrong_with_a_module_is_told(capsys: pytest.CaptureFixture[str], encoder: str, told: str) -> None:
    with pytest.raises(SystemExit):
        command_line_parser().parse_args(["fit", "--model=Plain", f"--model.predictor.encoder={encoder}"])
    assert told in capsys.readouterr().err


def test_check_tells_what_is_kept(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["check", f"{own}.TwoSteps", "--hidden_channels=4", "--one_process"])
    told = capsys.readouterr().out
    assert end.value.code == 0, told
    assert "out_channels = 4" in told
    assert "BROKEN" not in told


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
@pytest.mark.parametrize(
    "options", [["OWN.TwoSteps"], ["torch_geometric.nn.GraphSAGE", "--hidden_channels=8", "--num_layers=2"]]
)
def test_one_and_two_ranks_give_the_same(own: str, options: list[str]) -> None:
    command = [sys.executable, "-m", "mebns_pl", "check", *(part.replace("OWN", own) for part in options)]
    done = subprocess.run(
        command, env=environment(COLUMNS="200"), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one and two ranks" in done.stdout
    assert "they differ by" in done.stdout
