"""Search of options by Optuna: declared ranges, on validation only, the same budget for each combination."""

from __future__ import annotations

import json
import logging
from hashlib import blake2b
from pathlib import Path
from typing import Any

import optuna

from mebns_pl.files import alone

FILE = "search.sqlite"
WARM_TRIALS = 5
"""Trials of a combination before others are compared with their median."""


def open_search(
    folder: str | Path, combination: str, seed: int, pruning: bool = True, asked: Any = None
) -> optuna.Study:
    """Optuna's study of one combination, made where there is none; many processes may have it open.

    Args:
        folder: of our study.
        combination: its name.
        seed: of the draws of this process; the same seed draws the same again.
        pruning: see :class:`Search`.
        asked: all that makes trials alike (configuration and ranges), as JSON has it: trials of a study that was
            edited since are another's.
    """
    digest = blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=4).hexdigest()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = Path(folder).absolute() / FILE
    with alone(path.with_suffix(".lock")):  # two that make its tables together are in each other's way
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    return optuna.create_study(
        storage=storage,
        study_name=f"{combination} {digest}",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(WARM_TRIALS) if pruning else optuna.pruners.NopPruner(),
    )


def seed_of(*parts: Any) -> int:
    """A seed of 32 bits that depends on all parts."""
    return int.from_bytes(blake2b(json.dumps(parts).encode(), digest_size=4).digest(), "little")


def suggested(trial: optuna.trial.BaseTrial, ranges: dict[str, Any]) -> dict[str, Any]:
    """The options that a trial tries.

    Example:
        >>> import optuna
        >>> suggested(optuna.trial.FixedTrial({"a": 3}), {"a": {"low": 1, "high": 5}})
        {'a': 3}
    """
    found: dict[str, Any] = {}
    for option, given in ranges.items():
        if isinstance(given, list):
            # Optuna's choices are plain values; others are named by their place
            place = trial.suggest_categorical(option, [json.dumps(choice) for choice in given])
            found[option] = json.loads(place)
            continue
        whole = all(isinstance(given[name], int) for name in ("low", "high", "step") if name in given)
        suggest = trial.suggest_int if whole else trial.suggest_float
        step = {"step": given["step"]} if "step" in given else {}
        found[option] = suggest(option, given["low"], given["high"], log=given.get("log", False), **step)
    return found
