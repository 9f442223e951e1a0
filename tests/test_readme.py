"""The Python example of the README runs as it stands there."""

import re
from pathlib import Path

import pandas as pd
import pytest

from references.runs import ALL_WARM_UP

README = Path(__file__).parent.parent / "README.md"


@ALL_WARM_UP
@pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval")
def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shorter, changed = re.subn(r"max_epochs=\d+", "max_epochs=2", example)
    assert changed == 1
    exec(shorter, names)
    table = names["links"]
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["rank", "source", "target", "score", "logit"]
    assert len(table) == 20


def test_every_file_it_names_exists() -> None:
    names = re.findall(r"\]\(((?!http)[^)#]+)\)|-c (configs/\S+)", README.read_text())
    missing = [name for pair in names for name in pair if name and not (README.parent / name).exists()]
    assert not missing
