"""What saved options name is imported where it is this package's or well known, or the user trusts the run."""

from __future__ import annotations

import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse._util import import_object

from mebns_pl import CheckpointError, load_run
from mebns_pl.cli.main import main, run
from mebns_pl.cli.trust import TRUSTED, only_trusted, refusal, take_trust
from mebns_pl.errors import DataError
from mebns_pl.systems.checkpoint_io import AtomicCheckpointIO

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
RUN = Path("logs/mebns/version_0")
OPTIONS = """
trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false}
model: {class_path: Plain, init_args: {sampler: {num_candidates: 2}}}
data:
  graph: air_routes
  batch_size: 2000
  eval_negatives: {class_path: RandomNegatives, init_args: {num_negatives: 5}}
figures: {max_snapshots: 0}
"""
EVIL = """
from pathlib import Path
import mebns_pl

Path({mark!r}).touch()

class Evil(mebns_pl.RandomNegatives):
    pass

def evil(*args, **options):
    Path({mark!r}).touch()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("run.yaml").write_text(OPTIONS)
        main(["fit", "-c", "run.yaml"])
    return folder


@pytest.fixture
def mark(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that code from elsewhere would make, in a folder with a run and that code."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("evil_code", None)
    Path("evil_code.py").write_text(EVIL.format(mark=str(tmp_path / "mark")))
    Path("pairs.csv").write_text("source,target\nATL,LAX\n")
    return tmp_path / "mark"


def change(name: str, value: Any) -> None:
    """Sets an option in the run's ``config.yaml``."""
    options = section = yaml.safe_load((RUN / "config.yaml").read_text())
    *above, last = name.split(".")
    for part in above:
        section = section[part]
    section[last] = value
    (RUN / "config.yaml").write_text(yaml.safe_dump(options))


COMMANDS = {
    "test": ["test", str(RUN), *QUIET],
    "predict": ["predict", str(RUN), *QUIET],
    "score": ["score", "pairs.csv", f"--ckpt_path={RUN}", *QUIET],
    "resume": ["fit", f"--resume={RUN}", *QUIET],
    "landscape": ["landscape", "--ckpt", str(RUN / "checkpoints/last.ckpt")],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_foreign_classes_are_refused_before_they_are_imported(
    command: str, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change("data.eval_negatives", {"class_path": "evil_code.Evil", "init_args": {"num_negatives": 5}})
    with pytest.raises(SystemExit):
        run(COMMANDS[command])
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mebns: error")]
    assert len(told) == 1
    assert f"{RUN / 'config.yaml'} names 'evil_code.Evil', which is neither" in told[0]
    assert told[0].endswith("add --trust if you trust the run")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.init_args.sampler.proposal", "evil_code.evil"),
        ("model.init_args.predictor", {"class_path": "evil_code.evil"}),
        ("model.init_args.optimizer", "evil_code.evil"),
        ("trainer.callbacks", [{"class_path": "evil_code.Evil"}]),
        ("trainer.callbacks", [{"class_path": "LambdaCallback", "init_args": {"on_test_start": "evil_code.evil"}}]),
        # By way of what a trusted module has imported
        ("model.init_args.optimizer", {"class_path": "torch.optim.optimizer.functools.partial"}),
        ("trainer.callbacks", [{"class_path": "LambdaCallback", "init_args": {"setup": "mebns_pl.files.os.system"}}]),
        ("model", "evil.yaml"),
    ],
)
def test_all_ways_to_name_one_are_closed(name: str, value: Any, mark: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("evil.yaml").write_text("class_path: evil_code.Evil\n")
    change(name, value)
    with pytest.raises(SystemExit):
        run(COMMANDS["test"])
    assert "mebns: error" in capsys.readouterr().err
    assert not mark.exists()
    assert "evil_code" not in sys.modules


def test_a_trusted_run_and_the_users_own_words_may_name_any(mark: Path) -> None:
    change("data.eval_negatives", {"class_path": "evil_code.Evil", "init_args": {"num_negatives": 5}})
    with pytest.raises(DataError, match="names 'evil_code.Evil'"):
        load_run(RUN / "checkpoints/last.ckpt")
    assert not mark.exists()
    main([*COMMANDS["test"], "--data.eval_negatives=evil_code.Evil"])
    assert mark.exists()
    mark.unlink()
    sys.modules.pop("evil_code")
    main(["test", "--trust", *COMMANDS["test"][1:]])
    assert mark.exists()
    assert load_run(RUN / "checkpoints/last.ckpt", trust=True)
    Path("mine.yaml").write_text("data: {eval_negatives: {class_path: evil_code.Evil}}\n")
    main([*COMMANDS["resume"], "-c", "mine.yaml"])


def test_the_options_that_the_package_brings_are_trusted() -> None:
    """Every class in ``configs``, by its full name."""
    configs = Path(__file__).resolve().parents[2] / "configs"
    found = [name for path in configs.rglob("*.yaml") for name in re.findall(r"class_path: ([\w.]+)", path.read_text())]
    with only_trusted("configs"):
        for name in sorted({name for name in found if "." in name}):
            import_object(name)
        with pytest.raises(ImportError):
            import_object("mebns_pl.files.os.system")
    assert len(found) > 50
    import_object("fractions.Fraction")  # as before


class Payload:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit(7)",)


def test_a_refused_pickle_gives_no_advice_to_run_it(mark: Path) -> None:
    path = RUN / "checkpoints/last.ckpt"
    torch.save({"pytorch-lightning_version": "2", "x": Payload()}, path)
    with pytest.raises(CheckpointError, match=r"it names (builtins\.)?exec") as refused:
        AtomicCheckpointIO().load_checkpoint(path)
    assert "weights_only" not in str(refused.value)
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CheckpointError, match="last.ckpt") as refused:
        AtomicCheckpointIO().load_checkpoint(path)
    assert "weights_only" not in str(refused.value)


def test_pickles_are_run_for_trusted_runs_alone(mark: Path) -> None:
    with pytest.raises(DataError, match="weights_only: got false, which lets a checkpoint run any code"):
        main([*COMMANDS["test"], "--weights_only=false"])
    change("weights_only", False)
    with pytest.raises(DataError, match="weights_only: got false"):
        main(["fit", f"--resume={RUN}", *QUIET])
    main([*COMMANDS["test"], "--weights_only=false", "--trust"])


def test_launch_scripts_hand_it_on() -> None:
    """A job that is queued again runs the same script with the same arguments."""
    scripts = Path(__file__).resolve().parents[2] / "scripts" / "cluster"
    for name in ("slurm.sbatch", "torchrun.sh"):
        assert 'fit "$@"' in (scripts / name).read_text()


def test_words() -> None:
    assert take_trust(["fit", "-c", "a.yaml"]) == (False, ["fit", "-c", "a.yaml"])
    assert refusal("something else") == ""
    assert "mebns_pl" in TRUSTED
