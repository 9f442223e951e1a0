"""What a run has come to, out of the ``metrics.json`` of its folder."""

from __future__ import annotations

from pathlib import Path

from mebns_pl.errors import DataError
from mebns_pl.metrics_json import NAME, load_metrics
from mebns_pl.study.store import Outcome


def read_outcome(folder: Path, test: bool = True) -> Outcome:
    """Reads it.

    Args:
        folder: the run's, ``version_N``.
        test: whether it must have been tested.

    Raises:
        DataError: it has no file, or one without what a finished run leaves.
    """
    path = folder / NAME
    try:
        found = load_metrics(path)
        fit, tested = found["fit"], found["test"] if test else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: it does not hold what a finished run writes ({error})") from error
    metrics = {f"val/{name}": value for name, value in fit.get("val", {}).items()}
    metrics |= {f"test/{name}": value for name, value in tested.get("metrics", {}).items()}
    return Outcome(
        metrics,
        best_epoch=fit.get("best_epoch"),
        epochs=fit.get("epochs"),
        seconds=(fit.get("seconds") or 0.0) + (tested.get("seconds") or 0.0),
        peak_memory_mib=fit.get("peak_memory_mib"),
        churn=fit.get("churn"),
        unevenness=fit.get("unevenness"),
        notes=tuple(found.get("notes", ())),
    )
