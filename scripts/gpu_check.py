"""Checks on one GPU, in a few minutes, that runs there are what they are on the CPU, and measures what they cost.

    python scripts/gpu_check.py                                    # the embedded graph
    python scripts/gpu_check.py --graph pubmed --root ../shared/data --json check.json
    python scripts/gpu_check.py --device cpu                       # the checks themselves, without a GPU

| check | passes when |
|---|---|
| `equal in float64`, `equal in float32` | weights are the CPU's after some epochs, within 1e-10 (1e-4) of the largest |
| `neighbour batches` | the same in float32 where the graph stays on the CPU, and steps work on samples of it |
| `bf16 trains` | in `bf16-mixed` the loss is finite and falls |
| `fp16 is refused` | by one line, as documented: the bilevel step has no room for a loss scaler |
| `deterministic repeats` | two runs with `Trainer(deterministic=True)` have the same bits |
| `no waiting in the step` | the profiler finds no call in a step by which the host waits for the device |
| `ranks` | weights are one process's with NCCL (on the CPU gloo) on one rank, and on two where there are two GPUs |
| `cost` | always: seconds of an epoch and edges a second, plain and MeBNS, and peak memory |

A check that fails says why, and the others are made. The last line is one JSON object; the exit status is 1 where one
has failed. Weights are compared after steps of SGD: Adam's first steps divide rounding errors by themselves.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

import mebns_pl as m

WAITS = {
    "cuda": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
    # Where the host would wait if this were a GPU
    "cpu": ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2"),
}
TOLERANCES = {"64-true": 1e-10, "32-true": 1e-4}
EPOCHS = 3
STEP = "the step"


@dataclass
class Clock(Callback):
    """Seconds of every epoch, and its mean loss."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    _start: float = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts."""
        self._start = now(pl_module.device)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops."""
        self.seconds.append(now(pl_module.device) - self._start)
        self.losses.append(float(trainer.callback_metrics["train/student_loss"]))


@dataclass
class Profiled(Callback):
    """Profiles the steps of the last epoch but its last one, and counts the calls by which the host waits.

    Args:
        names: of such calls.
    """

    names: Sequence[str]
    found: dict[str, int] = field(default_factory=dict)
    steps: int = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the profiler round the system's step."""
        step = pl_module.step

        def profiled(batch: Any) -> Any:
            if trainer.current_epoch < trainer.max_epochs - 1 or trainer.is_last_batch:
                return step(batch)
            with torch.profiler.profile() as profile, torch.profiler.record_function(STEP):
                result = step(batch)
            self.count(profile.events())
            return result

        vars(pl_module)["step"] = profiled

    def count(self, events: Sequence[Any]) -> None:
        """Adds the calls that were made within the step, and not when the profiler was stopped."""
        self.steps += 1
        within = next(event.time_range for event in events if event.name == STEP)
        for event in events:
            if event.name in self.names and within.start <= event.time_range.start <= within.end:
                self.found[event.name] = self.found.get(event.name, 0) + 1


def now(device: torch.device) -> float:
    """Seconds, when the device has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass(frozen=True)
class Setting:
    """What is run.

    Args:
        device: "cuda" or "cpu".
        graph: a graph by name.
        root: the data folder, or None.
        epochs: of each run, 2 or more.
        channels: of the encoder.
    """

    device: str
    graph: str = "air_routes"
    root: str | None = None
    epochs: int = EPOCHS
    channels: int = 64

    def data(self) -> m.LinkDataModule:
        """The graph, in batches of which an epoch has several."""
        return m.LinkDataModule(graph=self.graph, root=self.root, batch_size=512)

    def system(self, data: m.LinkDataModule, plain: bool, optimizer: Any = None, batching: Any = None) -> Any:
        """A small GCN, always with the same initial weights."""
        seed_everything(0, verbose=False)
        predictor = partial(
            m.EncoderDecoder, encoder=partial(m.GCN, hidden_channels=self.channels), decoder=m.DotDecoder
        )
        sgd = optimizer or partial(torch.optim.SGD, lr=0.1)
        if plain:
            return m.Plain(data.spec, predictor, m.Sampler(num_candidates=8), sgd, batching=batching)
        return m.MeBNS(
            data.spec, predictor, m.Sampler(num_candidates=8), sgd, sgd, weight_net_optimizer=sgd,
            teaching=m.OwnLearning(epochs=None), schedule=m.Schedule(warmup=1), batching=batching,
        )  # fmt: skip

    def train(self, device: str, plain: bool = False, optimizer: Any = None, callbacks: Sequence[Callback] = (),
              batching: Any = None, **options: Any) -> dict[str, Tensor]:  # fmt: skip
        """Trains, and gives back the weights on the CPU."""
        data = self.data()
        system = self.system(data, plain, optimizer, batching)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(**{
                "max_epochs": self.epochs, "accelerator": "gpu" if device == "cuda" else "cpu", "devices": 1,
                "limit_val_batches": 0, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
                "enable_model_summary": False, "use_distributed_sampler": False, "default_root_dir": folder,
                "callbacks": list(callbacks), **options,
            })  # fmt: skip
            trainer.fit(system, data)
        return {name: value.cpu() for name, value in system.state_dict().items()}


Check = Callable[[Setting], dict[str, Any]]


class FailedError(Exception):
    """What a check has found."""


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of floating-point tensors, as a share of the largest number in the same tensor.

    Example:
        >>> difference({"w": torch.tensor([1.0, 4.0])}, {"w": torch.tensor([1.0, 5.0])})
        0.25
    """
    largest = 0.0
    for name, value in a.items():
        if value.is_floating_point() and value.numel():
            gap = float((value - b[name]).abs().max()) / max(float(value.abs().max()), 1e-30)
            largest = max(largest, gap if math.isfinite(gap) else math.inf)
    return largest


def equal(setting: Setting, precision: str, batching: Any = None) -> dict[str, Any]:
    """Whether the device computes what the CPU does."""
    runs = (setting.train(place, batching=batching, precision=precision) for place in (setting.device, "cpu"))
    device, cpu = runs
    found, allowed = difference(device, cpu), TOLERANCES[precision]
    if found > allowed:
        raise FailedError(f"weights differ by {found:.1e} of the largest; allowed are {allowed:.0e}")
    return {"difference": found}


def bf16(setting: Setting) -> dict[str, Any]:
    """Whether half precision learns."""
    clock = Clock()
    setting.train(setting.device, callbacks=[clock], precision="bf16-mixed")
    first, last = clock.losses[0], clock.losses[-1]
    if not (math.isfinite(last) and last < first):
        raise FailedError(f"the loss goes from {first:.4f} to {last:.4f}")
    return {"first_loss": first, "last_loss": last}


def fp16(setting: Setting) -> dict[str, Any]:
    """Whether float16, which has no place in the bilevel step, is refused, and not tried."""
    try:
        setting.train(setting.device, precision="16-mixed" if setting.device == "cuda" else "16-true")
    except ValueError as error:
        return {"told": str(error)}
    raise FailedError("it was not refused")


def deterministic(setting: Setting) -> dict[str, Any]:
    """Whether two runs have the same bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = (setting.train(setting.device, deterministic=True) for _ in range(2))
    torch.use_deterministic_algorithms(False)
    if unequal := [name for name, value in one.items() if not torch.equal(value, two[name])]:
        raise FailedError(f"{unequal[0]} and {len(unequal) - 1} other tensors differ")
    return {"tensors": len(one)}


def waiting(setting: Setting) -> dict[str, Any]:
    """Whether the host waits for the device within a step."""
    profiled = Profiled(WAITS[setting.device])
    setting.train(setting.device, callbacks=[profiled])
    if not profiled.steps:
        raise FailedError("an epoch has no step that could be looked at")
    if profiled.found:
        told = ", ".join(f"{count} x {name}" for name, count in sorted(profiled.found.items()))
        raise FailedError(f"{told} in {profiled.steps} steps")
    return {"steps": profiled.steps}


def ranks(setting: Setting) -> dict[str, Any]:
    """Whether processes of a group learn what one does."""
    alone = setting.train(setting.device, precision="64-true")
    counts = [1, 2] if setting.device == "cpu" or torch.cuda.device_count() > 1 else [1]
    found = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "weights.pt")
            options = json.dumps([vars(setting), count, str(file)])
            command = [sys.executable, str(Path(__file__).resolve()), "--rank", options]
            done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
            if done.returncode:
                raise FailedError(f"{count} ranks: {done.stderr.strip().splitlines()[-1:]}")
            gap = difference(torch.load(file, weights_only=True), alone)
        if gap > TOLERANCES["64-true"]:
            raise FailedError(f"on {count} ranks weights differ by {gap:.1e} of the largest")
        found[f"difference_on_{count}"] = gap
    return found


def as_rank(options: str) -> None:
    """One process of :func:`ranks`; Lightning starts the others."""
    setting, count, file = json.loads(options)
    weights = Setting(**setting).train(setting["device"], precision="64-true", strategy="ddp", devices=count)
    if torch.distributed.get_rank() == 0:
        torch.save(weights, file)


def cost(setting: Setting) -> dict[str, Any]:
    """Seconds and memory; the first epoch, in which kernels are made, is left out."""
    found: dict[str, Any] = {}
    edges = setting.data().split.train.shape[1]
    for name in ("plain", "mebns"):
        if setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        clock = Clock()
        adam = partial(torch.optim.Adam, lr=0.01)
        setting.train(
            setting.device, plain=name == "plain", optimizer=adam, callbacks=[clock], max_epochs=setting.epochs + 2
        )
        seconds = min(clock.seconds[2:])
        found |= {f"{name}_epoch_seconds": seconds, f"{name}_edges_a_second": edges / seconds}
        if setting.device == "cuda":
            found[f"{name}_peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    if setting.device == "cpu":
        found["process_peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


CHECKS: dict[str, Check] = {
    "equal in float64": partial(equal, precision="64-true"),
    "equal in float32": partial(equal, precision="32-true"),
    "neighbour batches": partial(equal, precision="32-true", batching=m.NeighborSampling(fan_out=5, num_hops=2)),
    "bf16 trains": bf16,
    "fp16 is refused": fp16,
    "deterministic repeats": deterministic,
    "no waiting in the step": waiting,
    "ranks": ranks,
    "cost": cost,
}


def run(setting: Setting, checks: dict[str, Check]) -> dict[str, dict[str, Any]]:
    """Makes the checks in turn; one that fails, or cannot be made, says why."""
    found = {}
    for name, check in checks.items():
        start = time.perf_counter()
        try:
            result: dict[str, Any] = {"passed": True, **check(setting)}
        except Exception as error:  # whatever it is, the others are to be made
            result = {
                "passed": False,
                "why": f"{'' if isinstance(error, FailedError) else type(error).__name__ + ': '}{error}",
            }
        found[name] = {**result, "seconds": time.perf_counter() - start}
        print(told(name, found[name]), flush=True)
    return found


def told(name: str, result: dict[str, Any]) -> str:
    """A result in one line.

    Example:
        >>> told("cost", {"passed": True, "steps": 3, "gb": 0.12345, "seconds": 2.0})
        'passed  cost: steps 3, gb 0.123 (2.0 s)'
    """
    parts = [
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in result.items()
        if key not in ("passed", "why", "seconds")
    ]
    text = " ".join(str(result.get("why") or ", ".join(parts)).split())
    return f"{'passed' if result['passed'] else 'FAILED'}  {name}: {text} ({result['seconds']:.1f} s)"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what is checked (cuda)")
    parser.add_argument("--graph", default="air_routes", help="a graph by name, as in `mebns datasets`")
    parser.add_argument("--root", help="the data folder")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of each run, 2 or more ({EPOCHS})")
    parser.add_argument("--only", action="append", choices=list(CHECKS), help="a check; again for more of them")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.rank is not None:
        as_rank(given.rank)
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "gpu_check: there is no GPU that torch can use; --device cpu tries the checks themselves\n")
    where = torch.cuda.get_device_name() if given.device == "cuda" else "the CPU: this says nothing of any GPU"
    print(f"torch {torch.__version__}, {where}", flush=True)
    setting = Setting(given.device, given.graph, given.root, max(given.epochs, 2))
    found = run(setting, {name: CHECKS[name] for name in given.only or CHECKS})
    text = json.dumps({"torch": str(torch.__version__), "device": where, "graph": given.graph, "checks": found})
    if given.json is not None:
        given.json.write_text(text + "\n")
    print(text)
    return 0 if all(result["passed"] for result in found.values()) else 1


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sys.exit(main())
