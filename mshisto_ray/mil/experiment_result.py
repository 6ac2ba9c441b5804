"""The result of an experiment: metrics, predictions, curves and head in one folder."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mshisto_ray.config import to_yaml
from mshisto_ray.learning.predictions import write_predictions
from mshisto_ray.learning.result_files import (
    HEAD_FOLDER,
    METRICS,
    PREDICTIONS,
    VALIDATION,
    measure,
    write_metrics,
)
from mshisto_ray.learning.split import Split
from mshisto_ray.mil.experiment_keys import ExperimentKeys
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import CrossValidation
from mshisto_ray.mil.fit.trained import trained_share, undecided_share
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.trained_head import save_head
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.temporary import temporary_beside


class Stopwatch:
    """Seconds since its making, and CPU seconds since they were last taken."""

    def __init__(self) -> None:
        self._started, self._cpu = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """Since its making."""
        return time.perf_counter() - self._started

    def share(self, num: int) -> float:
        """CPU seconds since the last call, divided among ``num``."""
        last, self._cpu = self._cpu, time.process_time()
        return (self._cpu - last) / num


def measure_and_write(
    folder: Path,
    result: CrossValidation,
    bags: Bags,
    config: ExperimentKeys,
    seconds: float,
    cpu_seconds: float,
) -> dict[str, float]:
    """Measure and write a result, see ``write_result``; returns its metrics."""
    metrics = measure(result.test, result.validation)
    metrics["trained_share"] = trained_share(result.models, bags.kind)
    metrics["undecided_share"] = undecided_share(result.test)
    metrics["seconds"], metrics["cpu_seconds"] = seconds, cpu_seconds
    write_result(folder, result, bags, config, bags.about(config.split), metrics)
    return metrics


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
        write_predictions(temporary / VALIDATION, result.validation)
    (temporary / "history.json").write_text(json.dumps(_curves(result)))
    (temporary / "config.yaml").write_text(to_yaml(config))
    write_metrics(temporary, metrics, bags.kind)
    try:
        os.rename(temporary, folder)
    except OSError:  # not empty: another run of this config has finished it
        if not (folder / METRICS).is_file():
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
