"""Every experiment, and stacks of other encoders, train and are tested from a checkpoint, on the real graphs."""

from pathlib import Path

import pytest
import torch

from mebns_pl.cli.main import main

CONFIGS = Path(__file__).parent.parent / "configs"
RUNS = {path.stem: [f"experiment/{path.stem}"] for path in sorted((CONFIGS / "experiment").glob("*.yaml"))}
RUNS |= {
    f"{encoder}_{sampler}_mebns": ["base", "data/cora", f"model/{encoder}_dot", f"sampler/{sampler}"]
    for encoder in ("gat", "sage")
    for sampler in ("rns", "dns")
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_fit_then_test(name: str, data_root: Path, tmp_path: Path) -> None:
    files = [f"--config={CONFIGS / file}.yaml" for file in RUNS[name]]
    common = [*files, "--data.root", str(data_root), f"--trainer.logger.init_args.save_dir={tmp_path}"]
    warm = ["--model.init_args.schedule.warmup=1"] if "mebns" in name else []
    quiet = ["--trainer.enable_progress_bar=false"]
    limits = ["--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=3"]
    main(["fit", *common, *quiet, *limits, *warm])
    (checkpoint,) = tmp_path.glob("*/version_0/checkpoints/best.ckpt")
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 2
    cli = main(["test", *common, *quiet, "--ckpt_path", str(checkpoint)])
    metrics = cli.trainer.callback_metrics
    untrained = 2 / (cli.datamodule.test_dataloader().dataset.whole.negatives.shape[2] + 2)
    assert metrics["test/mrr"] > untrained
    assert metrics["test/auc"] > 0.6
