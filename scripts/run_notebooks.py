"""Executes the notebooks, each in an empty folder, and keeps the executed copies in build/notebooks.

make notebooks        # or: python scripts/run_notebooks.py [NAME ...]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "build" / "notebooks"


def run(path: Path, console: Console) -> bool:
    """Executes one notebook; says how long it took, or what went wrong."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": folder}})
        try:
            client.execute()
        except CellExecutionError as error:
            console.print(f"{path.name}: failed\n{error}", markup=False)
            return False
        finally:
            TARGET.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, TARGET / path.name)
    console.print(f"{path.name}: {time.perf_counter() - start:.0f} s")
    return True


def main() -> None:
    """Runs those named on the command line, or all."""
    console = Console()
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    chosen = [path for path in paths if path.stem in sys.argv[1:]] if sys.argv[1:] else paths
    if not chosen:
        sys.exit(f"no such notebook: {' '.join(sys.argv[1:])}; there are {', '.join(path.stem for path in paths)}")
    failed = [path.name for path in chosen if not run(path, console)]
    console.print(f"Executed copies: {TARGET.relative_to(ROOT)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
