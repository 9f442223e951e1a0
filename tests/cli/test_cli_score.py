"""``mebns score``, and what ``predict`` and ``score`` let one leave out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from mebns_pl.cli import main as cli
from mebns_pl.errors import DataError
from mebns_pl.systems.checkpoint_io import CheckpointError
from references.runs import write_edges


def test_the_configuration_of_the_run_is_found(tmp_path: Path) -> None:
    run = tmp_path / "run"
    checkpoint = str(run / "checkpoints" / "best.ckpt")
    config = str(run / "config.yaml")
    assert cli.completed(["predict", "--ckpt_path", checkpoint]) == ["predict", "--ckpt_path", checkpoint]
    run.mkdir()
    Path(config).write_text("")
    found = ["-c", config, "--ckpt_path", checkpoint]
    assert cli.completed(["predict", "--ckpt_path", checkpoint]) == ["predict", *found]
    assert cli.completed(["predict", f"--ckpt_path={checkpoint}"]) == [
        "predict",
        "-c",
        config,
        f"--ckpt_path={checkpoint}",
    ]
    assert cli.completed(["score", "p.csv", "--ckpt_path", checkpoint]) == [
        "score",
        *found[:2],
        "--pairs",
        "p.csv",
        *found[2:],
    ]
    for command in ("test", "validate"):
        assert cli.completed([command, checkpoint]) == [command, *found]
        assert cli.completed([command, "--ckpt_path", checkpoint]) == [command, *found]
    given = ["score", "--config=x.yaml", "--pairs", "p.csv", "--ckpt_path", checkpoint]
    assert cli.completed(given) == given
    for others in (
        ["fit", "--ckpt_path", checkpoint],
        ["test", "--ckpt_path", "best"],
        ["predict"],
        ["score", "-h"],
        [],
    ):
        assert cli.completed(others) == others
    assert cli.completed(["predict", "--ckpt_path"]) == ["predict", "--ckpt_path"]


def test_given_pairs_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    write_edges(Path("edges.csv"))
    edges = pd.read_csv("edges.csv").to_numpy().tolist()
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs", "--trainer.logger.name=run"]
    epochs = [
        "--model.schedule.warmup=0",
        "--trainer.max_epochs=1",
        "--trainer.check_val_every_n_epoch=1",
        "--data.eval_negatives=RandomNegatives",
    ]
    cli.main(["fit", "--data.graph=edges.csv", *logger, *epochs, *quiet])
    assert "Best checkpoint: logs/run/version_0/checkpoints/best.ckpt" in capsys.readouterr().out

    pd.DataFrame([edges[3][::-1], ["node 0", "node 39"]], columns=["source", "target"]).to_csv("pairs.csv", index=False)
    checkpoint = ["--ckpt_path", "logs/run/version_0/checkpoints/best.ckpt"]
    scoring = ["--scoring=CascadeScoring", "--scoring.drop_easy=0.0", "--path=out/scores.parquet"]
    cli.main(["score", "pairs.csv", *checkpoint, *scoring, *quiet])
    assert "2 pairs scored: out/scores.parquet" in capsys.readouterr().out
    table = pd.read_parquet("out/scores.parquet")
    assert table["source"].tolist() == [edges[3][1], "node 0"]
    assert table["known"].tolist() == [True, False]
    assert table["score"].between(0, 1).all()

    Path("pairs.csv").write_text("source,target\nnode 0,nobody\n")
    with pytest.raises(DataError, match=r"pairs\.csv: 1 name .*'nobody' \(line 2\)"):
        cli.main(["score", "pairs.csv", *checkpoint, *quiet])
    assert not Path("scores.csv").exists()


def test_new_nodes_are_scored_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no part of the graph that the checkpoint was trained on, which it must agree with all the same."""
    monkeypatch.chdir(tmp_path)
    loaded = write_edges(Path("edges.csv"))
    assert isinstance(loaded.x, torch.Tensor)
    table = pd.DataFrame(loaded.x.numpy(), columns=[f"x{i}" for i in range(5)])
    table.insert(0, "node", loaded.node_names)
    table.to_csv("nodes.csv", index=False)
    table[:1].assign(node="newcomer").to_csv("new.csv", index=False)
    Path("links.csv").write_text("source,target\nnewcomer,node 3\n")
    Path("pairs.csv").write_text("source,target\nnewcomer,node 1\nnode 0,node 39\n")
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    random, logs = "--data.eval_negatives=RandomNegatives", "--trainer.logger.save_dir=logs"
    data = ["--data.graph=edges.csv", "--data.nodes=nodes.csv", random]
    cli.main(["fit", *data, logs, "--model=Plain", "--trainer.max_epochs=1", *quiet])
    checkpoint = ["--ckpt_path=logs/mebns/version_0/checkpoints/last.ckpt"]
    cli.main(["score", "pairs.csv", *checkpoint, "--nodes=new.csv", "--edges=links.csv", *quiet])
    assert pd.read_csv("scores.csv")["new_node"].tolist() == [True, False]
    Path("nodes.csv").write_text(Path("nodes.csv").read_text().replace("node 7,", "node 7,1"))
    with pytest.raises(CheckpointError, match="has other edges or features now"):
        cli.main(["score", "pairs.csv", *checkpoint, "--nodes=new.csv", *quiet])


def test_edges_go_with_nodes_and_scores_into_folders_that_can_be_written(tmp_path: Path) -> None:
    trainer = cli.LinkTrainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(DataError, match=r"edges: got 'e\.csv' without nodes"):
        trainer.score(None, None, "pairs.csv", edges="e.csv")  # type: ignore[arg-type]
    Path(tmp_path, "file").touch()
    with pytest.raises(OSError, match="path: cannot write to"):  # before anything is scored
        trainer.score(None, None, "pairs.csv", path=f"{tmp_path}/file/scores.csv")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="path: expected a file name that ends in"):
        trainer.score(None, None, "pairs.csv", path="scores.txt")  # type: ignore[arg-type]
