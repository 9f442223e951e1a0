"""From a checkpoint of the command line back to its system and its data."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from mebns_pl.cli.bounded_yaml import load_yaml
from mebns_pl.cli.preflight import check_config_file
from mebns_pl.data.datamodule import LinkDataModule
from mebns_pl.errors import DataError
from mebns_pl.systems.checkpoint_io import CheckpointError
from mebns_pl.systems.identity import KEY, describe_data, describe_system, differences
from mebns_pl.systems.link_system import AbstractLinkSystem


def config_beside(checkpoint: str | Path) -> Path:
    """Where the command line has written the configuration of a checkpoint's run; there need not be one."""
    return Path(checkpoint).parent.parent / "config.yaml"


def load_run(checkpoint: str | Path) -> tuple[AbstractLinkSystem, LinkDataModule]:
    """Builds model and data of a run anew from the ``config.yaml`` beside its checkpoint, and loads the weights.

    Global random numbers are left as they are.

    Args:
        checkpoint: ``<run>/checkpoints/<name>.ckpt``, as ``mebns fit`` writes it.

    Raises:
        DataError: no such file, or no configuration beside it.
        CheckpointError: the checkpoint belongs to another model, graph or split than the configuration.

    Example:
        >>> load_run("logs/mebns/version_0/checkpoints/no.ckpt")
        Traceback (most recent call last):
            ...
        mebns_pl.errors.DataError: ckpt: no such file: 'logs/mebns/version_0/checkpoints/no.ckpt'
    """
    path, config = Path(checkpoint), config_beside(checkpoint)
    if not path.is_file():
        raise DataError(f"ckpt: no such file: {str(path)!r}")
    if not config.is_file():
        raise DataError(
            f"ckpt: got {str(path)!r}, without the configuration of its run at {str(config)!r}; "
            "allowed are checkpoints where `mebns fit` has written them"
        )
    check_config_file(config)
    with torch.random.fork_rng(devices=[]):
        system, data = _instantiated(config)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    told = differences(loaded.get(KEY), {**describe_system(system), **describe_data(data)}, "test")
    if told:
        raise CheckpointError(f"checkpoint {path}: it does not belong to {config}. {'; '.join(told)}")
    system.load_state_dict(loaded["state_dict"])
    return system, data


def _instantiated(config: Path) -> tuple[AbstractLinkSystem, LinkDataModule]:
    """Model and data of a configuration; its trainer and callbacks are left out."""
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_lightning_class_args(LinkDataModule, "data")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.link_arguments("seed_everything", "data.seed")
    parser.link_arguments("data.spec", "model.init_args.spec", apply_on="instantiate")
    options = load_yaml(config.read_text("utf-8"), config)
    missing = [name for name in ("seed_everything", "data", "model") if name not in options]
    if missing:
        raise DataError(f"{config}: no section `{missing[0]}:`; allowed is what `mebns fit` has written")
    parts = parser.parse_object({name: options[name] for name in ("seed_everything", "data", "model")})
    made = parser.instantiate_classes(parts)
    return made["model"], made["data"]
