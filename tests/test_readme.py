"""The Python example of the README runs as it stands there, and says the same twice."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from references.runs import ALL_WARM_UP, equal, weights

README = Path(__file__).parent.parent / "README.md"


@ALL_WARM_UP
@pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval")
def test_the_python_example_runs_and_prints_the_same_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shorter, changed = re.subn(r"max_epochs=\d+", "enable_progress_bar=False, max_epochs=2", example)
    assert changed == 1
    said = []
    for _ in range(2):
        names: dict[str, Any] = {}
        exec(shorter, names)
        said.append(capsys.readouterr().out)
        best = torch.load(names["trainer"].checkpoint_callback.best_model_path, weights_only=True)["state_dict"]
        assert equal(best, weights(names["system"]))
    assert said[0] == said[1]
    assert "test/mrr" in said[0]
    table = names["links"]
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["rank", "source", "target", "score", "logit"]
    assert len(table) == 20


def test_every_file_it_names_exists() -> None:
    names = re.findall(r"\]\(((?!http)[^)#]+)\)|-c (configs/\S+)", README.read_text())
    missing = [name for pair in names for name in pair if name and not (README.parent / name).exists()]
    assert not missing
