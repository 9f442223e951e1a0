"""The console script: what it answers at once, what it refuses before all is loaded, and its short help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mebns_pl.cli import main as cli
from mebns_pl.cli import start
from mebns_pl.cli.help import _OPTIONS, COMMANDS, short_help
from mebns_pl.cli.messages import _option_names
from mebns_pl.cli.option_names import unknown_option
from references.command_line import environment
from references.runs import command_line_parser


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").write_text("source,target\n")


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        start.run(arguments)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return int(ended.value.code or 0), said


@pytest.fixture
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("all was loaded")

    monkeypatch.setattr(start, "_run", refuse)


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fti"], 2, "no command 'fti'; did you mean fit? Allowed are run, fit, "),
        (["sample"], 2, "did you mean samplers?"),
        (["xyzzy"], 2, "no command 'xyzzy'; allowed are run, fit, "),
        (["fit", "-c", "none.yaml"], 1, "none.yaml: no such file"),
        (["fit", "--config=sampler/dsn"], 1, "sampler/dsn: no such file; did you mean sampler/dns?"),
        (["fit", "--data.graph", "none.csv"], 1, "none.csv: no such file"),
        (["fit", "--data.graph=empty.csv", "--data.nodes=none.csv"], 1, "none.csv: no such file"),
        (["run", "none.csv"], 1, "none.csv: no such file"),
        (["score", "none.csv"], 1, "none.csv: no such file"),
        (["sweep", "none.yaml"], 1, "none.yaml: no such file"),
        (["report", "nowhere"], 1, "nowhere: no such folder"),
        (["test", "nowhere"], 1, "ckpt_path: no such file: 'nowhere'"),
        (["predict", "--ckpt_path=none.ckpt"], 1, "ckpt_path: no such file: 'none.ckpt'"),
    ],
)
def test_what_is_not_there_is_told_at_once(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, said = told(arguments, capsys)
    assert ended == code
    assert said.startswith("mebns: error: ")
    assert message in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "-c", "base", "-c", "configs/sampler/dns.yaml", "--data.graph", "empty.csv"],
        ["fit", "--data.graph", "air_routes", "--trainer.max_epochs=1"],
        ["run", "air_routes"],
        ["sweep", "configs/study/demo.yaml", "--dry-run"],
        ["test", "--ckpt_path=best"],
        ["fit", "--help=all"],
        ["landscape", "--help"],
    ],
)
def test_the_rest_is_run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[str]] = []
    monkeypatch.setattr(start, "_run", runs.append)
    start.run(arguments)
    assert runs == [["--help" if arg == "--help=all" else arg for arg in arguments]]


def test_one_of_several_ranks_fails_from_within_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """There it tells the others, who would wait for it."""
    runs: list[list[str]] = []
    monkeypatch.setattr(start, "_run", runs.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    start.run(["fit", "--data.graph", "none.csv"])
    start.run(["fit", "--data.grpah", "none.csv"])
    assert runs == [["fit", "--data.graph", "none.csv"], ["fit", "--data.grpah", "none.csv"]]


@pytest.mark.usefixtures("_nothing_runs")
def test_version_listings_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, part in (
        (["--version"], "mebns 0."),
        (["datasets"], "air_routes"),
        (["samplers"], "HardestSelector"),
        ([], "usage: mebns COMMAND"),
        (["--help"], "samplers"),
        (["fit", "--help"], "--help=all"),
        (["score", "pairs.csv", "-h"], "PAIRS"),
    ):
        start.run(arguments)
        said = capsys.readouterr().out
        assert part in said
        if arguments[-1:] in (["--help"], ["-h"]):
            assert len(said.splitlines()) <= 40


def test_every_command_is_listed() -> None:
    assert set(COMMANDS) == {*cli.MeBNSCLI.subcommands(), *cli.WITHOUT_A_RUN, "run"}


@pytest.mark.parametrize("command", sorted(_OPTIONS))
def test_short_help_names_options_that_there_are(command: str) -> None:
    named = re.findall(r"^  --([\w.]+)", short_help(command), flags=re.MULTILINE)
    known = {*_option_names(command_line_parser(command)), "resume"}
    assert len(named) > 5
    inner = ("model.predictor", "model.sampler", "model.optimizer")  # of a class that is chosen
    assert not [name for name in named if name not in known and not name.startswith(inner)]


def test_nothing_heavy_is_imported_for_what_is_answered_at_once() -> None:
    code = (
        "import sys; from mebns_pl.cli import start\n"
        "for given in (['--version'], ['datasets'], ['samplers'], ['fit', '--help']): start.run(given)\n"
        "heavy = {'torch', 'lightning', 'pandas', 'numpy', 'scipy', 'jsonargparse'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, stdout=subprocess.DEVNULL)


def test_stopped_by_hand(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "_run", stop)
    assert told(["fit"], capsys) == (130, "mebns: stopped\n")


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--data.grpah=empty.csv"], "no option --data.grpah; did you mean --data.graph?"),
        (["fit", "--trianer.max_epochs", "3"], "did you mean --trainer.max_epochs?"),
        (["fit", "--trainer.max_epoch", "3"], "did you mean --trainer.max_epochs?"),
        (["fit", "--data.split.vla=0.1"], "did you mean --data.split.val?"),
        (["fit", "--data.splits.val=0.1"], "did you mean --data.split?"),
        (["fit", "--model.samplr.num_candidates=3"], "did you mean --model.sampler?"),
        (["fit", "--model=Plain", "-c", "base", "--model.optimiser.lr=1"], "did you mean --model.optimizer?"),
        (["fit", "--checkpoint.montor=val/auc"], "did you mean --checkpoint.monitor?"),
        (["fit", "--sed_everything=3"], "did you mean --seed_everything?"),
        (["fit", "--card.xyzzy=3"], "no option --card.xyzzy; allowed are --card.max_edges, --card.max_pairs, "),
        (["fit", "--xyzzy"], "no option --xyzzy; --help lists what is allowed"),
        (["test", "--ckpt_pth=x.ckpt"], "did you mean --ckpt_path?"),
        (["predict", "--predictions.topk=3"], "did you mean --predictions.top_k?"),
        (["score", "empty.csv", "--node=n.csv"], "did you mean --nodes?"),
        (["run", "empty.csv", "--top-k=3"], "did you mean --top_k?"),
        (["run", "empty.csv", "--data.columns.weigth=w"], "did you mean --data.columns.weight?"),
        (["sweep", "--dryrun", "configs/study/demo.yaml"], "did you mean --dry-run?"),
        (["report", ".", "--fromat=md"], "did you mean --format?"),
        (["landscape", "--ckp=x.ckpt"], "did you mean --ckpt?"),
        (["datasets", "--rot=x"], "did you mean --root?"),
    ],
)
def test_misspelt_options_are_told_at_once(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, said = told(arguments, capsys)
    assert ended == 2
    assert message in said


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict", "score"])
def test_options_that_there_are_pass(command: str) -> None:
    parser = command_line_parser(command)
    assert parser is not None
    for name in _option_names(parser):
        assert unknown_option([command, f"--{name}=x"]) == "", name
    for more in ("--trainer.callbacks+=a.B", "--trainer.logger.save_dir=x", "--data.structure.help=A", "--model.x=1"):
        assert unknown_option([command, "-c", "base", more, "-1"]) == ""


def test_options_of_other_commands_pass() -> None:
    for arguments in (
        [
            "run",
            "e.csv",
            "--nodes=n.csv",
            "--top_k",
            "-1",
            "--per_node",
            "--out=o",
            "--system=MeBNS",
            "--seed_everything=1",
        ],
        ["sweep", "s.yaml", "--dry-run"],
        ["report", "f", "--format=md"],
        ["landscape", "--ckpt=a", "--device=cpu", "--trust", "--out=x"],
        ["fit", "--resume=x", "--trust"],
    ):
        assert unknown_option(arguments) == ""
