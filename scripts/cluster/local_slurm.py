"""A SLURM of several nodes on this machine, to try jobs on: real daemons, each node in a network namespace of its own.

    python scripts/cluster/local_slurm.py up /tmp/slurm --nodes 3     # as root; apt-get install slurm-wlm munge
    export SLURM_CONF=/tmp/slurm/slurm.conf
    sinfo; sbatch --nodes=2 --ntasks-per-node=2 scripts/cluster/slurm.sbatch -c configs/base.yaml
    python scripts/cluster/local_slurm.py cut /tmp/slurm node1        # pulls its power plug
    python scripts/cluster/local_slurm.py unplug /tmp/slurm node1     # pulls its network cable
    python scripts/cluster/local_slurm.py down /tmp/slurm

Nodes share the machine's files and cores, not its network: each has a host name, an address and a cable to a bridge.
One such cluster at a time can be on a machine. Waiting times are set for trials: a silent node is down after 60 seconds
(SLURM's default is 300), and a job that is queued again starts 5 seconds later (120).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

BRIDGE = "mebns-slurm"
NETWORK = "10.78.0"
TOOLS = ("slurmctld", "slurmd", "sbatch", "srun", "munged", "ip", "unshare")
SILENCE = 60
"""Seconds after which a node that does not answer is down."""
CONF = """
ClusterName=local
SlurmctldHost=controller({network}.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmdTimeout={silence}
KillWait=20
MinJobAge=3600
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
"""


def missing() -> str | None:
    """Why there can be no such cluster here, or None."""
    if os.geteuid() != 0:
        return "network namespaces and SLURM's daemons need root"
    tools = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(tools)}; Debian: apt-get install slurm-wlm munge iproute2" if tools else None


def up(folder: Path, nodes: int, cpus: int) -> None:
    """Starts it, and waits until all nodes are idle.

    Raises:
        SystemExit: it cannot be.
    """
    if reason := missing():
        sys.exit(reason)
    for name in ("state", "munge"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = [f"node{number}" for number in range(nodes)]
    lines = [
        f"NodeName={name} NodeAddr={NETWORK}.{10 + number} CPUs={cpus} State=UNKNOWN"
        for number, name in enumerate(names)
    ]
    text = CONF.format(folder=folder, network=NETWORK, silence=SILENCE)
    (folder / "slurm.conf").write_text("\n".join([text.strip(), *lines, ""]))
    # Nothing here uses control groups, but slurmd wants to know of which kind they are
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "nodes").write_text("\n".join(names))
    _start_network(names)
    _start_munge(folder / "munge")
    _start(
        folder,
        "slurmctld",
        ["unshare", "--uts", "sh", "-c", 'hostname controller && exec "$@"', "-"],
        ["slurmctld", "-D"],
    )
    for name in names:
        revive(folder, name)
    _wait_until_idle(folder, nodes)


def cut(folder: Path, node: str) -> None:
    """A node without power: its processes are gone at once, and nobody is told."""
    _cable(node, "down")
    _kill_all(node)


def unplug(node: str) -> None:
    """A node without network: its processes run on, and reach nobody."""
    _cable(node, "down")


def revive(folder: Path, node: str) -> None:
    """Starts a node, again or for the first time; what still runs there is killed first."""
    _kill_all(node)
    _cable(node, "up")
    where = ["ip", "netns", "exec", node, "unshare", "--uts", "sh", "-c", f'hostname {node} && exec "$@"', "-"]
    _start(folder, f"slurmd.{node}", where, ["slurmd", "-D", "-N", node])


def down(folder: Path) -> None:
    """Ends it: processes, namespaces, bridge; files stay."""
    known = folder / "nodes"
    for name in known.read_text().split() if known.exists() else []:
        _kill_all(name)
        _run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)
    for file in (folder / "slurmctld.pid", folder / "munge" / "pid"):
        if file.exists():
            _kill(int(file.read_text()))
    _run(["ip", "link", "del", BRIDGE], check=False)


def _start_network(names: Sequence[str]) -> None:
    made = _run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=False)
    if made.returncode:
        sys.exit(f"no bridge {BRIDGE}: {made.stderr.strip()}; a cluster that is there goes by `down FOLDER`")
    _run(["ip", "addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE])
    _run(["ip", "link", "set", BRIDGE, "up"])
    hosts = [f"{NETWORK}.1 controller", *(f"{NETWORK}.{10 + number} {name}" for number, name in enumerate(names))]
    for number, name in enumerate(names):
        _run(["ip", "netns", "add", name])
        _run(["ip", "link", "add", f"ms-{name}", "type", "veth", "peer", "name", "eth0", "netns", name])
        _run(["ip", "link", "set", f"ms-{name}", "master", BRIDGE])
        _run(["ip", "-n", name, "addr", "add", f"{NETWORK}.{10 + number}/24", "dev", "eth0"])
        for link in ("lo", "eth0"):
            _run(["ip", "-n", name, "link", "set", link, "up"])
        own = Path("/etc/netns", name)  # where `ip netns exec` takes the node's /etc/hosts from
        own.mkdir(parents=True, exist_ok=True)
        (own / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))


def _start_munge(folder: Path) -> None:
    key = folder / "key"
    if not key.exists():
        key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "key-file": "key", "seed-file": "seed"}
    # --force: as root, and with a folder that others may look into
    _run(["munged", "--force", *(f"--{option}={folder / name}" for option, name in files.items())])


def _start(folder: Path, name: str, where: Sequence[str], command: Sequence[str]) -> None:
    with (folder / f"{name}.out").open("a") as out:
        environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        subprocess.Popen([*where, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                         start_new_session=True, env=environment)  # fmt: skip


def _wait_until_idle(folder: Path, nodes: int, patience: float = 60.0) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        told = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%T"], capture_output=True, text=True,
                              check=False, env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")})  # fmt: skip
        if told.stdout.split() == ["idle"] * nodes:
            return
        time.sleep(0.3)
    sys.exit(f"the nodes are not ready after {patience:g} s; the logs are in {folder}")


def _cable(node: str, state: str) -> None:
    _run(["ip", "link", "set", f"ms-{node}", state])


def _kill_all(node: str) -> None:
    for _ in range(3):  # some may have been starting others
        for pid in _run(["ip", "netns", "pids", node], check=False).stdout.split():
            _kill(int(pid))
        time.sleep(0.05)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _run(command: Sequence[str], check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip() or f'status {done.returncode}'}")
    return done


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="A SLURM of several nodes on this machine.", allow_abbrev=False)
    parser.add_argument("what", choices=("up", "down", "cut", "unplug", "revive"))
    parser.add_argument("folder", type=Path, help="for configuration, state and logs")
    parser.add_argument("node", nargs="?", default="", help="to cut, unplug or revive, such as node1")
    parser.add_argument("--nodes", type=int, default=3, help="how many (3)")
    parser.add_argument("--cpus", type=int, default=4, help="that each says it has (4)")
    given = parser.parse_args(arguments)
    folder = given.folder.absolute()
    if given.what == "up":
        up(folder, given.nodes, given.cpus)
    elif given.what == "down":
        down(folder)
    elif given.what == "unplug":
        unplug(given.node)
    else:
        {"cut": cut, "revive": revive}[given.what](folder, given.node)


if __name__ == "__main__":
    main()
