"""The files of one result, whatever was trained: metrics and predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from mshisto_ray.learning.fold_means import fold_means
from mshisto_ray.learning.intervals import CURRENT, intervals
from mshisto_ray.learning.predictions import Predictions, read_predictions
from mshisto_ray.learning.targets import Target

HEAD_FOLDER = "head"
PREDICTIONS, VALIDATION = "predictions.parquet", "validation.parquet"
METRICS = "metrics.json"
_INTERVALS = "intervals"  # key of METRICS: how the bounds in it were made


def measure(test: Predictions, validation: Predictions | None) -> dict[str, float]:
    """``test_<metric>_mean``, ``_ci_low``, ``_ci_high``, and ``val_...`` likewise.

    See ``learning.intervals.intervals`` for what is computed. ``test``: out-of-fold
    predictions of all bags; ``val``: those of the bags set aside within training
    folds, which is what configs are chosen by. A value that is not defined is NaN.
    See ``fold_means`` for ``test_<metric>_of_folds``.
    """
    found: dict[str, float] = {}
    for prefix, predictions in (("val", validation), ("test", test)):
        if predictions is None:
            continue
        for name, interval in intervals(predictions).items():
            found[f"{prefix}_{name}_mean"] = interval.value
            found[f"{prefix}_{name}_ci_low"] = interval.low
            found[f"{prefix}_{name}_ci_high"] = interval.high
    return found | fold_means(test)


def read_metrics(folder: Path) -> dict[str, float] | None:
    """The metrics that ``write_result`` wrote, or None if it has not finished.

    Bounds that an earlier version made in another way are made anew from the
    predictions, so that those of a sweep can be compared.
    """
    file = folder / METRICS
    if not file.is_file():
        return None
    found = json.loads(file.read_text())
    made_by = found.pop(_INTERVALS, None)
    metrics = {k: math.nan if v is None else v for k, v in found.items()}
    if made_by in CURRENT:
        return metrics
    return metrics | measure(read_test(folder), read_validation(folder))


def read_test(folder: Path) -> Predictions:
    """The out-of-fold predictions that ``write_result`` wrote."""
    return read_predictions(folder / PREDICTIONS)


def read_validation(folder: Path) -> Predictions | None:
    """The predictions of the bags set aside in training; None where none were."""
    file = folder / VALIDATION
    return read_predictions(file) if file.is_file() else None


def write_metrics(
    folder: Path, metrics: Mapping[str, float], kind: Target | None = None
) -> None:
    """Write ``metrics.json``; JSON has no NaN, so what is not defined is null.

    ``kind``: that made the intervals, by which ``read_metrics`` knows their version.
    """
    known = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
    content = known | ({_INTERVALS: kind.interval_name} if kind else {})
    (folder / METRICS).write_text(json.dumps(content, indent=2) + "\n")
