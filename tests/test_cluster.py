"""The command line on several ranks and hosts: cluster configurations, resume, preemption, a killed host."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from lightning.pytorch.plugins.environments import SLURMEnvironment
from torch import Tensor

from mebns_pl.callbacks.preemption import requeue
from mebns_pl.cli.main import main
from mebns_pl.cli.preflight import check_launcher
from mebns_pl.errors import DataError
from mebns_pl.systems.identity import plain
from references.command_line import REPOSITORY, environment, weights_of, write_small
from references.ranks import free_port
from references.runs import command_line_parser

CONFIGS = REPOSITORY / "configs"
SCRIPTS = REPOSITORY / "scripts" / "cluster"

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")


def mebns(folder: Path, *args: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end."""
    command = [sys.executable, "-m", "mebns_pl", *args]
    return subprocess.run(
        command, cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=900, check=False
    )


def same(a: dict[str, Tensor], b: dict[str, Tensor], within: float = 0.0) -> bool:
    return a.keys() == b.keys() and all(bool(((a[name] - b[name]).abs() <= within).all()) for name in a)


# --- configurations and scripts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["single_host", "slurm", "torchrun"])
def test_cluster_configurations_stack(name: str) -> None:
    files = [
        part for path in ("base", "data/cora", f"cluster/{name}") for part in ("-c", str(CONFIGS / f"{path}.yaml"))
    ]
    config = command_line_parser("fit").parse_args(files)
    assert config.trainer.strategy.class_path.endswith("DDPStrategy")
    assert config.trainer.strategy.init_args.timeout.total_seconds() == 600
    assert config.trainer.use_distributed_sampler is False
    assert config.data.graph == "cora"
    assert "0:10:00" in str(plain(config.trainer.as_dict()))  # as checkpoints hold it


@pytest.mark.parametrize(
    ("name", "told"),
    [("slurm", r"SLURMEnvironment .* started by srun in .*\(SLURM_NTASKS is not set\)"),
     ("torchrun", r"TorchElasticEnvironment .* started by torchrun, .*\(WORLD_SIZE is not set\)")],
)  # fmt: skip
def test_a_clusters_configuration_is_refused_elsewhere(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [*os.environ]:
        if variable.startswith("SLURM_") or variable in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "GROUP_RANK"):
            monkeypatch.delenv(variable)
    with pytest.raises(DataError, match=told):
        main(["fit", "-c", str(write_small(tmp_path)), "-c", str(CONFIGS / f"cluster/{name}.yaml")])


def test_a_clusters_configuration_is_taken_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(variable, "1")
    check_launcher([SLURMEnvironment(auto_requeue=False)])
    check_launcher(None)


@pytest.mark.parametrize(
    ("says", "done", "told"),
    [("exit 0", True, "is queued again"),
     ("echo 'Job is pending execution for job 7' >&2; exit 1", True, "is queued again already"),
     ("echo 'Invalid job id specified' >&2; exit 1", False, "is not queued again: scontrol: Invalid job id")],
)  # fmt: skip
def test_what_scontrol_says_is_told(
    says: str, done: bool, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "scontrol").write_text(f"#!/bin/bash\n{says}\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert requeue() is done
    assert told in caplog.text


@pytest.mark.parametrize("name", ["slurm.sbatch", "torchrun.sh"])
def test_launch_scripts_are_shell(name: str) -> None:
    subprocess.run(["bash", "-n", str(SCRIPTS / name)], check=True)
    assert os.access(SCRIPTS / name, os.X_OK)


# --- preemption -----------------------------------------------------------------------------------------------------


def slurm(folder: Path, small: Path, rank: int = 0, size: int = 1, port: int = 0) -> subprocess.Popen[str]:
    """One task of ``scripts/cluster/slurm.sbatch``, with an ``srun`` that only runs its command."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    (bin_folder / "srun").write_text('#!/bin/bash\nshift\nexec "$@"\n')
    (bin_folder / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {folder}/scontrol.log\n')
    for tool in bin_folder.iterdir():
        tool.chmod(0o755)
    variables = {
        "SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "mebns", "SLURM_NTASKS": str(size), "SLURM_NTASKS_PER_NODE": str(size),
        "SLURM_JOB_NUM_NODES": "1", "SLURM_NNODES": "1", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    env = environment(
        **variables,
        RUNS=str(folder / "runs"),
        MEBNS=f"{sys.executable} -m mebns_pl",
        PATH=f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
    )
    watch = ["--trainer.callbacks+=references.command_line.Signals", f"--trainer.callbacks.order={folder}/order"]
    command = [str(SCRIPTS / "slurm.sbatch"), "-c", str(small), "--trainer.accelerator=cpu", *watch]
    return subprocess.Popen(command, cwd=REPOSITORY, env=env, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path: Path, size: int) -> None:
    """One task is told, in mid-epoch and in an epoch's last step; all stop after the same step."""
    small = write_small(tmp_path)

    def job(folder: Path, order: str = "") -> tuple[list[int], list[str]]:
        folder.mkdir(exist_ok=True)
        if order:
            (folder / "order").write_text(order)
        port = free_port()
        tasks = [slurm(folder, small, rank, size, port) for rank in range(size)]
        said = [task.communicate(timeout=600)[1] for task in tasks]
        return [task.returncode for task in tasks], said

    whole, part = tmp_path / "whole", tmp_path / "part"
    assert job(whole)[0] == [0] * size
    last = Path("runs/77/last.ckpt")
    steps = torch.load(whole / last, weights_only=True)["global_step"] // 4  # of an epoch
    assert steps > 2
    for rank, epoch, step, name in ((size - 1, 1, 1, "SIGUSR1"), (0, 2, steps - 1, "SIGTERM")):
        codes, said = job(part, f"{rank} {epoch} {step} {name}")
        assert codes == [75] * size, said
        assert f"{name}: training stops after step" in said[rank]
        assert torch.load(part / last, weights_only=True)["global_step"] == epoch * steps + step + 1
    assert (part / "scontrol.log").read_text().splitlines() == ["requeue 77"] * 2
    codes, said = job(part)
    assert codes == [0] * size, said
    assert same(weights_of(part / last), weights_of(whole / last))
    assert not list(part.rglob(".*.tmp"))


# --- ranks by the command line --------------------------------------------------------------------------------------


def resume_on_ranks(folder: Path, *options: str) -> None:
    """Two epochs on two ranks, then two more on one and on two; and four on two ranks in one go."""
    two = [*options, "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    one = [*options, "--trainer.devices=1", "--trainer.accelerator=cpu"]
    runs = {
        "part": [*two, "--trainer.max_epochs=2"],
        "whole": two,
        "on_two": [*two, f"--ckpt_path={folder}/part/last.ckpt"],
        "on_one": [*one, f"--ckpt_path={folder}/part/last.ckpt"],
    }
    for name, args in runs.items():
        done = mebns(
            folder, "fit", *args, f"--checkpoint.dirpath={folder}/{name}",
            "--trainer.callbacks+=references.command_line.Report", f"--trainer.callbacks.folder={folder}/{name}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    whole = weights_of(folder / "whole/last.ckpt")
    assert same(whole, weights_of(folder / "on_two/last.ckpt"))
    assert same(whole, weights_of(folder / "on_one/last.ckpt"), within=1e-9)
    assert not same(whole, weights_of(folder / "part/last.ckpt"), within=1e-6)
    told = [(folder / f"whole/{rank}.txt").read_text() for rank in range(2)]
    assert told[0] == told[1]
    assert "val/mrr" in told[0]
    assert (folder / "on_two/0.txt").read_text() == told[0]


@pytest.mark.slow
def test_resume_with_one_and_two_ranks(tmp_path: Path) -> None:
    """In float64, where the order in which ranks sum shows in the last digits only."""
    resume_on_ranks(tmp_path, "-c", str(write_small(tmp_path)), "--trainer.precision=64-true")


@pytest.mark.slow
def test_resume_on_cora(tmp_path: Path, data_root: Path) -> None:
    options = ["-c", str(CONFIGS / "experiment/cora_gcn_mebns.yaml"), f"--data.root={data_root}"]
    options += ["--trainer.max_epochs=4", "--trainer.check_val_every_n_epoch=2", "--trainer.logger=false"]
    options += ["--model.schedule.warmup=1", "--model.teaching=OwnLearning", "--model.teaching.epochs=1"]
    options += ["--trainer.precision=64-true", "--trainer.enable_progress_bar=false"]
    resume_on_ranks(tmp_path, *options)


# --- hosts ----------------------------------------------------------------------------------------------------------

HOSTS = runpy.run_path(str(REPOSITORY / "scripts" / "campaigns" / "hosts.py"))
Host = Any  # of that module


@pytest.fixture(params=["loopback", "namespaces"])
def hosts(request: pytest.FixtureRequest) -> Iterator[list[Host]]:
    """Two hosts."""
    apart = request.param == "namespaces"
    if apart and not HOSTS["namespaces_work"]():
        pytest.skip("network namespaces need root, the ip command and a kernel that has them")
    with HOSTS["hosts_of"](2, apart) as found:
        yield found


def on_hosts(hosts: list[Host], folder: Path, args: list[list[str]]) -> tuple[list[int], list[str], list[float]]:
    """Runs ``scripts/cluster/torchrun.sh`` on every host, with its own arguments.

    Returns:
        Exit codes, what was said, and when each host's part ended.
    """
    port, parts = free_port(), []
    folder.mkdir(exist_ok=True)
    for number, host in enumerate(hosts):
        own = {"NODES": str(len(hosts)), "NODE": str(number), "PORT": str(port), "RUN": str(folder)}
        command = [*host.prefix, str(SCRIPTS / "torchrun.sh"), "--trainer.accelerator=cpu", *args[number]]
        with (folder / f"{number}.err").open("w") as out:
            env = environment(**host.variables, **own)
            parts.append(subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=out, stderr=out))
    ended: dict[int, float] = {}
    while len(ended) < len(parts):
        ended |= {n: time.time() for n, part in enumerate(parts) if n not in ended and part.poll() is not None}
        time.sleep(0.1)
    said = [(folder / f"{number}.err").read_text() for number in range(len(parts))]
    return [part.returncode for part in parts], said, [ended[number] for number in range(len(parts))]


@pytest.mark.slow
def test_a_host_without_the_data_ends_the_other(tmp_path: Path) -> None:
    """Before the ranks have met: no heartbeats of theirs, no process group."""
    small = ["-c", str(write_small(tmp_path))]
    bad = [*small, "--data.graph=nowhere.csv"]
    with HOSTS["hosts_of"](2, False) as hosts:
        codes, said, ended = on_hosts(hosts, tmp_path / "run", [small, bad])
    assert all(codes)
    assert abs(ended[0] - ended[1]) < 60
    assert re.search(r"rank 1 of 2 on .* failed before the ranks had met: DataError: .*nowhere\.csv", said[0]), said[0]


@pytest.mark.slow
def test_a_killed_host_ends_the_other_and_the_job_goes_on(tmp_path: Path, hosts: list[Host]) -> None:
    small = write_small(tmp_path)

    def job(folder: Path) -> tuple[list[int], list[str], list[float]]:
        watch = ["--trainer.callbacks+=references.command_line.Signals", f"--trainer.callbacks.order={folder}/order"]
        return on_hosts(hosts, folder, [["-c", str(small), *watch]] * 2)

    codes, said, _ = job(tmp_path / "whole")
    assert codes == [0, 0], said[0][-3000:]
    part = tmp_path / "part"
    part.mkdir()
    (part / "order").write_text("1 2 1 SIGKILL")  # the second host's rank, in the middle of the third epoch
    codes, said, ended = job(part)
    assert not (part / "order").exists()
    assert all(code != 0 for code in codes)
    assert abs(ended[0] - ended[1]) < 60
    told = r"rank 0 of 2 on \S+ ends: rank 1 on \S+ has broken its connections: its process or its host has gone"
    assert re.search(told, said[0]), said[0][-3000:]
    assert "Traceback" not in said[0]
    codes, said, _ = job(part)
    assert codes == [0, 0], said[0][-3000:]
    assert same(weights_of(part / "last.ckpt"), weights_of(tmp_path / "whole" / "last.ckpt"))
