"""The result of an experiment: metrics, predictions, curves and head in one folder."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mshisto_ray.config import to_yaml
from mshisto_ray.learning.intervals import CURRENT, intervals
from mshisto_ray.learning.predictions import (
    Predictions,
    read_predictions,
    write_predictions,
)
from mshisto_ray.learning.split import Split
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import CrossValidation
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.trained_head import save_head
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.temporary import temporary_beside

HEAD_FOLDER = "head"
PREDICTIONS, _VALIDATION = "predictions.parquet", "validation.parquet"
_METRICS = "metrics.json"
_INTERVALS = "intervals"  # key of _METRICS: how the bounds in it were made


def write_result(
    folder: Path,
    result: CrossValidation,
    bags: Bags,
    config: TrainConfig,
    about: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> None:
    """Write ``folder``, whole or not at all; see ``experiment.run``.

    Args:
        folder: one that another process wrote meanwhile is kept.
        result: models and predictions.
        bags: that they were trained on.
        config: of the experiment.
        about: JSON values on the bags, for the head.
        metrics: of ``measure``, and others.
    """
    temporary = temporary_beside(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_head(temporary / HEAD_FOLDER, result, bags, config, about)
    write_predictions(temporary / PREDICTIONS, result.test)
    if result.validation:
        write_predictions(temporary / _VALIDATION, result.validation)
    (temporary / "history.json").write_text(json.dumps(_curves(result)))
    (temporary / "config.yaml").write_text(to_yaml(config))
    # JSON has no NaN; a metric that is not defined is null.
    known = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
    content = {**known, _INTERVALS: bags.kind.interval_name}
    (temporary / _METRICS).write_text(json.dumps(content, indent=2) + "\n")
    try:
        os.rename(temporary, folder)
    except OSError:  # not empty: another run of this config has finished it
        if not (folder / _METRICS).is_file():
            raise
        shutil.rmtree(temporary)


def _curves(result: CrossValidation) -> list[dict[str, Any]]:
    return [
        {
            "repeat": split.repeat,
            "fold": split.fold,
            "epochs": model.epochs,
            "chance_loss": model.chance,
            "history": model.history,
        }
        for split, model in zip(result.splits, result.models, strict=True)
    ]


def measure(test: Predictions, validation: Predictions | None) -> dict[str, float]:
    """``test_<metric>_mean``, ``_ci_low``, ``_ci_high``, and ``val_...`` likewise.

    See ``learning.intervals.intervals`` for what is computed. ``test``: out-of-fold
    predictions of all bags; ``val``: those of the bags set aside within training
    folds, which is what configs are chosen by. A value that is not defined is NaN.
    """
    found: dict[str, float] = {}
    for prefix, predictions in (("val", validation), ("test", test)):
        if predictions is None:
            continue
        for name, interval in intervals(predictions).items():
            found[f"{prefix}_{name}_mean"] = interval.value
            found[f"{prefix}_{name}_ci_low"] = interval.low
            found[f"{prefix}_{name}_ci_high"] = interval.high
    return found


def read_metrics(folder: Path) -> dict[str, float] | None:
    """The metrics that ``write_result`` wrote, or None if it has not finished.

    Bounds that an earlier version made in another way are made anew from the
    predictions, so that those of a sweep can be compared.
    """
    file = folder / _METRICS
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
    file = folder / _VALIDATION
    return read_predictions(file) if file.is_file() else None


def write_folds(path: Path, bags: Bags, splits: Sequence[Split]) -> None:
    """Write ``bag, patient_id, repeat, fold, part``: a row per bag of every split."""
    rows = [
        {
            "bag": bags.names[index],
            "patient_id": bags.patient_ids[index],
            "repeat": split.repeat,
            "fold": split.fold,
            "part": part,
        }
        for split in splits
        for part in ("train", "validation", "test")
        for index in getattr(split, part)
    ]
    write_shard(path, [pa.Table.from_pylist(rows)])
