"""The loss landscapes of checkpoints, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from mebns_pl.analysis.landscape import Landscape, LandscapeOptions, measure_landscape, write_landscapes
from mebns_pl.cli.saved_run import load_run
from mebns_pl.errors import DataError


def compare_checkpoints(
    checkpoints: Sequence[str | Path],
    folder: str | Path,
    options: LandscapeOptions = LandscapeOptions(),
    device: torch.device | str = "cpu",
    trust: bool = False,
) -> pd.DataFrame:
    """Measures the students of checkpoints on the same loss, and writes what was found.

    Args:
        checkpoints: as ``mebns fit`` has written them; all of the same graph and split.
        folder: where to write, see :func:`write_landscapes`.
        options: what is measured.
        device: where it is computed.
        trust: as of :func:`load_run`.

    Returns:
        A row a checkpoint, named by the folder of its run and its file: ``mebns_version_0_best``.

    Raises:
        DataError: a missing file; one given twice; other edges than the first one's; classes that are not trusted.
        CheckpointError: a checkpoint of another model or split than the configuration beside it.

    Example:
        >>> compare_checkpoints(["logs/mebns/version_0/checkpoints/no.ckpt"], "logs/landscape")
        Traceback (most recent call last):
            ...
        mebns_pl.errors.DataError: ckpt: no such file: 'logs/mebns/version_0/checkpoints/no.ckpt'
    """
    found: dict[str, Landscape] = {}
    digests: dict[str, str] = {}
    for checkpoint in checkpoints:
        run = Path(checkpoint).resolve().parent.parent
        name = f"{run.parent.name}_{run.name}_{Path(checkpoint).stem}"
        if name in found:
            raise DataError(f"ckpt: got {str(checkpoint)!r}, and another of the same name {name!r}; give each once")
        system, data = load_run(checkpoint, trust)
        digests = digests or data.digests
        if data.digests != digests:
            raise DataError(
                f"ckpt: {str(checkpoint)!r} belongs to another graph or split than {str(checkpoints[0])!r}; "
                "only students of the same training edges have the same loss"
            )
        found[name] = measure_landscape(system, data, options, device)
    return write_landscapes(found, folder)
