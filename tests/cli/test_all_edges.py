"""Training on all edges, where nothing is evaluated."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mebns_pl.cli import main as cli
from mebns_pl.errors import DataError
from references.runs import make_loaded

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_epochs=2"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = make_loaded()
    lines = [f"{loaded.node_names[u]},{loaded.node_names[v]}" for u, v in loaded.edges.t().tolist()]
    Path("edges.csv").write_text("\n".join(["source,target", *lines]) + "\n")


def test_all_edges_train_and_predict() -> None:
    none_held_out = ["--data.split.val=0", "--data.split.test=0"]
    fit = cli.main(
        [
            "fit",
            "--model=Plain",
            "--data.graph=edges.csv",
            *none_held_out,
            *QUIET,
            "--trainer.check_val_every_n_epoch=1",
        ]
    )
    split = fit.datamodule.split
    assert split.observed.shape[1] == split.all.shape[1] == make_loaded().num_edges
    assert fit.trainer.current_epoch == 2
    folder = Path(fit.trainer.log_dir or "")
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    cli.main(["predict", str(folder), "--predictions.explain=true", "--predictions.max_per_node=2"])
    links = pd.read_csv(folder / "predictions.csv")
    assert len(links) > 10
    assert "why" in links
    assert "probability" not in links
    for command in ("test", "validate"):
        with pytest.raises(DataError, match="0 edges are held out, so there is nothing to rank"):
            cli.main([command, str(folder)])


def test_validation_alone_may_be_left_out() -> None:
    fit = cli.main(["fit", "--model=Plain", "--data.graph=edges.csv", "--data.split.val=0", *QUIET])
    assert fit.datamodule.split.test.shape[1]
    cli.main(["test", str(fit.trainer.log_dir)])
