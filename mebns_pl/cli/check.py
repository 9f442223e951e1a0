"""``mebns check CLASS``: whether an encoder of one's own keeps to what steps, ranks and the lookahead rely on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from torch import Tensor

from mebns_pl.analysis.encoder_check import Finding, look_at_encoder, small_graph
from mebns_pl.cli.messages import OneLineParser, bad_input
from mebns_pl.cli.own_code import look_here
from mebns_pl.families import import_all
from mebns_pl.models.pyg import EncoderFactory, make_encoder
from mebns_pl.terminal import say, text_table

_ONE_PROCESS = "--one_process"
_WITHIN = 1e-6
"""Of weights after some steps in double precision, where ranks add in another order."""

_RUN: dict[str, Any] = {
    "trainer": {
        "accelerator": "cpu", "max_epochs": 2, "precision": "64-true", "logger": False, "enable_progress_bar": False,
        "limit_val_batches": 0,
    },
    "checkpoint": {"monitor": None},
    "data": {"graph": "air_routes", "batch_size": 600},
    "migration": {"probe_size": 50},
}  # fmt: skip
_MODEL: dict[str, Any] = {
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
    "schedule": {"warmup": 1},
}


def check_class(arguments: Sequence[str]) -> None:
    """``mebns check``: looks at a class, and shows what was found.

    Raises:
        SystemExit: 1 where a rule is not kept, 2 where arguments are wrong.
    """
    import_all()
    parser = OneLineParser(
        prog="mebns check",
        usage="mebns check CLASS [--option=VALUE ...] [--one_process]",
        description="Looks whether an encoder, or a module with forward(x, edge_index), can be trained: determinism, "
        "second derivatives, edges that must stay unseen, one and two ranks, cost. Options are the class's own.",
        allow_abbrev=False,
    )
    parser.add_argument("--encoder", type=EncoderFactory, help="its import path")
    one_process = _ONE_PROCESS in arguments
    given = [_named(place, argument) for place, argument in enumerate(a for a in arguments if a != _ONE_PROCESS)]
    look_here(given)
    options = parser.parse_args(given)
    if options.encoder is None:
        parser.error("expected the import path of an encoder's class: mebns check my_module.MyEncoder")
    with bad_input():
        make = parser.instantiate_classes(options).encoder
        graph = small_graph()
        findings = list(look_at_encoder(lambda: make_encoder(make, graph.spec), graph))
        findings.append(_without_features(make))
    if not one_process:
        findings.append(_on_ranks(parser.dump(options)))
    words = {True: "kept", False: "BROKEN", None: ""}
    Console().print(text_table(["rule", "", "found"], [], ((f.rule, words[f.good], f.told) for f in findings)))
    broken = sum(finding.good is False for finding in findings)
    say(f"{broken} rules are broken" if broken else "It can be trained: --model.predictor.encoder takes this class")
    if broken:
        sys.exit(1)


def _named(place: int, argument: str) -> str:
    """The class's place among the options, and its own options below it."""
    if place == 0 and not argument.startswith("-"):
        return f"--encoder={argument}"
    own = argument.startswith("--") and not argument.startswith(("--help", "--encoder"))
    return f"--encoder.{argument[2:]}" if own else argument


def _without_features(make: EncoderFactory) -> Finding:
    rule, graph = "graphs without features", small_graph(0)
    try:
        z = make_encoder(make, graph.spec)(graph)
    except Exception as error:
        return Finding(rule, None, f"refused: {' '.join(str(error).split())[:200]}")
    return Finding(rule, bool(z.isfinite().all()), "embeddings of nodes are learned")


def _on_ranks(options: str) -> Finding:
    """The same few steps of MeBNS in one process and in two."""
    rule = "one and two ranks, the same weights"
    encoder = yaml.safe_load(options)["encoder"]
    predictor = {"class_path": "mebns_pl.EncoderDecoder", "init_args": {"encoder": encoder}}
    run = {**_RUN, "model": {"class_path": "mebns_pl.MeBNS", "init_args": {**_MODEL, "predictor": predictor}}}
    with tempfile.TemporaryDirectory() as place:
        config = Path(place, "run.yaml")
        config.write_text(yaml.safe_dump(run))
        ended = [_start(config, ranks) for ranks in (1, 2)]
        told = [process.communicate()[1] for process in ended]
        for process, text in zip(ended, told, strict=True):
            if process.returncode:
                return Finding(rule, False, f"a run ends with: {text.strip().splitlines()[-1][:300] if text else ''}")
        one, two = (_weights(config.with_name(f"{ranks}")) for ranks in (1, 2))
    off = max(dict(_differences(one, two)).values())
    worst = max(_differences(one, two), key=lambda item: item[1])[0]
    hint = f", most in {worst}: a row must not depend on the batch it is in, nor a draw on the process"
    return Finding(rule, off <= _WITHIN, f"they differ by {off:.0e}{hint if off > _WITHIN else ''}")


def _start(config: Path, ranks: int) -> subprocess.Popen[str]:
    strategy = [] if ranks == 1 else ["--trainer.strategy=ddp"]
    command = [sys.executable, "-m", "mebns_pl", "fit", "-c", str(config), f"--trainer.devices={ranks}", *strategy]
    command.append(f"--checkpoint.dirpath={config.with_name(str(ranks))}")
    paths = os.pathsep.join(path for path in sys.path if path)
    env = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **os.environ, "PYTHONPATH": paths}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    return found


def _differences(one: dict[str, Tensor], two: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    """How far weights are apart, relative to the largest of a tensor where that is above 1."""
    for name, value in one.items():
        if value.numel():
            off = (value.double() - two[name].double()).abs().max()
            yield name, float(off / value.abs().max().double().clamp(min=1))
