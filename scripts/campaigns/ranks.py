"""Kills and stops ranks of runs under torchrun, and looks whether the others end soon and say which rank it was.

Every trial starts ``scripts/cluster/torchrun.sh`` on one host or several (agents of their own on this machine; as root
also in two network namespaces, which share no loopback), with two or three ranks, and makes one fault: a rank is killed
or stopped in mid-training, or killed while it imports, or an agent is killed. All other ranks must have ended 30
seconds later (after a fault in the import 60), the faulty rank must be named, no other one blamed, and there must be no
traceback and no more than a line from each process.

    python scripts/campaigns/ranks.py                      # 30 faults
    python scripts/campaigns/ranks.py --faults 3 --only kill --folder /tmp/ranks
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hosts import Host, hosts_of, namespaces_work

from mebns_pl.keys import Key

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = ("kill", "stop", "import", "agent")
LAYOUTS = ((1, 2, False), (2, 1, False), (1, 3, False), (3, 1, False))
"""Hosts, ranks on each, and whether each host is a network namespace."""
APART = (2, 1, True)
"""The layout that needs network namespaces."""
LIMITS = {"kill": 30, "stop": 30, "import": 60, "agent": 30}
"""Seconds within which the others must have ended."""
OPTIONS = """
trainer:
  accelerator: cpu
  max_epochs: 100000
  check_val_every_n_epoch: 1000
  logger: false
  enable_progress_bar: false
model:
  class_path: mebns_pl.Plain
  init_args:
    predictor:
      class_path: mebns_pl.EncoderDecoder
      init_args: {encoder: {class_path: mebns_pl.GCN, init_args: {hidden_channels: 8}}}
    sampler: {num_candidates: 2}
data: {graph: air_routes, batch_size: 600}
migration: {probe_size: 10}
last_checkpoint: {minutes: 0.0005}
"""


@dataclass(frozen=True)
class Fault:
    """What is done to whom.

    Args:
        kind: of :data:`KINDS`.
        hosts: number of hosts.
        devices: ranks on each.
        apart: whether each host is a network namespace of its own.
        victim: the rank, or the host whose agent it is.
        delay: seconds after the run has come to the place in question.
    """

    kind: str
    hosts: int
    devices: int
    apart: bool
    victim: int
    delay: float

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self.hosts * self.devices

    @property
    def faulty(self) -> set[int]:
        """The ranks that may be named."""
        if self.kind != "agent":
            return {self.victim}
        return set(range(self.victim * self.devices, (self.victim + 1) * self.devices))


def faults(count: int, seed: int, kinds: Sequence[str], apart: bool) -> list[Fault]:
    """The faults of a campaign: kinds and layouts in turn, the rest drawn; ``apart``: network namespaces, too."""
    found, layouts = [], (*LAYOUTS, *([APART] * apart))
    for number in range(count):
        draw = Key(seed, f"rank fault/{number}").numpy()
        kind = kinds[number % len(kinds)]
        hosts, devices, own = layouts[(number % len(kinds) + number // len(kinds)) % len(layouts)]
        victim = int(draw.integers(hosts if kind == "agent" else hosts * devices))
        found.append(Fault(kind, hosts, devices, own, victim, float(draw.uniform(0, 2))))
    return found


def ranks_of(run: Path) -> dict[int, int]:
    """Process numbers of a run's ranks, by rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            if b"mebns_pl" in words and str(run).encode() in words:
                variables = dict(part.partition(b"=")[::2] for part in (path / "environ").read_bytes().split(b"\0"))
                if (path / "stat").read_text().rpartition(")")[2].split()[0] != "Z" and b"RANK" in variables:
                    found[int(variables[b"RANK"])] = int(path.name)
        except OSError:  # it has ended
            continue
    return found


def until(done: Callable[[], object], seconds: float) -> bool:
    """Waits until ``done()`` is true, at most so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.05)
    return False


def trial(fault: Fault, folder: Path, places: Sequence[Host]) -> list[str]:
    """Makes one fault on these hosts, and returns what was wrong."""
    run = folder / "run"
    run.mkdir(parents=True)
    (folder / "options.yaml").write_text(OPTIONS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agents = []
    for host, place in enumerate(places):
        own = {"NODES": fault.hosts, "NODE": host, "DEVICES": fault.devices, "PORT": port, "RUN": run}
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **place.variables}
        env |= {"PYTHON": sys.executable, **{name: str(value) for name, value in own.items()}}
        command = [*place.prefix, str(REPOSITORY / "scripts/cluster/torchrun.sh"), "-c", str(folder / "options.yaml")]
        with open(folder / f"{host}.txt", "wb") as output:
            agents.append(subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=output, stderr=output))
    victims: list[int] = []
    try:
        ready = run / "last.ckpt"
        if not until(lambda: fault.victim in ranks_of(run) if fault.kind == "import" else ready.exists(), 240):
            return ["it has not come to the fault"]
        time.sleep(fault.delay)
        ranks = ranks_of(run)
        if fault.kind == "agent":
            agents[fault.victim].kill()
            victims = [agents[fault.victim].pid]
        else:
            victims = [ranks[fault.victim]]
            os.kill(victims[0], signal.SIGSTOP if fault.kind == "stop" else signal.SIGKILL)
        began = time.monotonic()
        ended = until(lambda: not set(ranks_of(run).values()) - set(victims), LIMITS[fault.kind] + 30)
        took = time.monotonic() - began
        if fault.kind == "stop":
            os.kill(victims[0], signal.SIGKILL)
        until(lambda: all(agent.poll() is not None for agent in agents), 40)
        told = [] if ended and took <= LIMITS[fault.kind] else [f"others ended after {took:.1f} seconds"]
        return told + judged(fault, "".join((folder / f"{host}.txt").read_text() for host in range(fault.hosts)))
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()
        for process in ranks_of(run).values():
            os.kill(process, signal.SIGKILL)


def judged(fault: Fault, said: str) -> list[str]:
    """What is wrong with what a run has said."""
    lines = [line for line in said.splitlines() if line.startswith("mebns: error: ")]
    named: set[int] = set()
    for line in lines:
        blamed = re.search(r" ends: (?:rank (\d+)|torchrun's agent)", line)
        by_agent = re.match(r"mebns: error: rank (\d+) on \S+(?:, process|.* ends: torchrun)", line)
        found = blamed[1] if blamed and blamed[1] else by_agent[1] if by_agent else None
        named |= {int(found)} if found else set()
    told = [f"no line names rank {fault.victim}"] if not named & fault.faulty else []
    told += [f"rank {rank} is blamed" for rank in sorted(named - fault.faulty)]
    told += ["there is a traceback"] if "Traceback" in said else []
    told += [f"{len(lines)} lines tell of it"] if len(lines) > fault.size + fault.hosts else []
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the campaign; returns 0 when all is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=30, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=KINDS, help="this kind; again for more of them")
    parser.add_argument("--folder", type=Path, default=Path("rank_campaign"))
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    if folder.exists():
        parser.error(f"--folder: {folder} is there")
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    apart = namespaces_work()
    if not apart:
        print("no network namespaces here (they need root and the ip command): that layout is left out")
    for number, fault in enumerate(faults(given.faults, given.seed, given.only or KINDS, apart)):
        began = time.monotonic()
        with hosts_of(fault.hosts, fault.apart) as places:
            told = trial(fault, folder / f"{number:03d}", places)
        tried[fault.kind] += 1
        wrong[fault.kind] += bool(told)
        hosts = f"{fault.hosts} {'namespaces' if fault.apart else 'hosts'} of {fault.devices}"
        what = f"{fault.kind} {fault.victim}, {hosts}, after {fault.delay:.1f} s"
        print(f"{number + 1}: {what}: {'; '.join(told) or 'right'} ({time.monotonic() - began:.0f} s)", flush=True)
    for kind in tried:
        print(f"{kind}: {tried[kind]} tried, {tried[kind] - wrong[kind]} right, {wrong[kind]} wrong")
    count, bad = tried.total(), wrong.total()
    print(f"rank faults: {count} tried, {count - bad} right, {bad} wrong")
    if not bad:
        shutil.rmtree(folder)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
