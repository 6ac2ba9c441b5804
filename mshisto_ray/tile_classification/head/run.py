"""Cross-validation of a tile head, and the files that it writes."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray.config import InputError, to_yaml
from mshisto_ray.evaluation.labelled_tiles import ANNOTATION
from mshisto_ray.learning.result_files import METRICS as METRICS_FILE
from mshisto_ray.learning.result_files import PREDICTIONS, write_metrics
from mshisto_ray.learning.split import Split, SplitConfig, make_splits
from mshisto_ray.learning.tile_metrics import METRICS, TileMetrics, tile_metrics
from mshisto_ray.representation.preparation import by_content, check_noise, reduction_of
from mshisto_ray.store.temporary import temporary_beside
from mshisto_ray.tile_classification.head.config import (
    NOISES,
    TileHeadConfig,
    TileModelConfig,
)
from mshisto_ray.tile_classification.head.files import save_heads
from mshisto_ray.tile_classification.head.fit import TileModel, fit_head, predict_tiles
from mshisto_ray.tile_classification.head.predictions import write_tile_predictions
from mshisto_ray.tile_classification.head.preparation import (
    check_folds,
    fit_preparation,
    group_moments,
)
from mshisto_ray.tile_classification.head.samples import TileSamples

RESULT = "result"  # folder of what follows
CONFIG = "config.yaml"


def plan_folds(samples: TileSamples, config: TileHeadConfig) -> list[Split]:
    """Splits of the tiles for a head.

    Raises:
        InputError: see ``draw_folds``; a reduction or noise that does not suit the
            embeddings.
    """
    splits = draw_folds(samples, config.split)
    check_model(samples, splits, config)
    return splits


def check_model(
    samples: TileSamples, splits: Sequence[Split], config: TileModelConfig
) -> None:
    """Refuse a reduction or noise that does not suit the embeddings or the folds.

    Raises:
        InputError: as the part says.
    """
    reduction_of(config.reduction, samples.features.dim, len(samples.classes))
    check_noise(config.noise, config.reduction, samples.views)
    check_folds(samples, splits, config)


def draw_folds(samples: TileSamples, config: SplitConfig) -> list[Split]:
    """Splits of the tiles; patients (or other groups) stay together.

    A patient may have tiles of several classes: its counts of each are what is spread
    over the folds.

    Raises:
        InputError: folds that cannot be drawn; a class without a training tile in one.
    """
    names = np.array(samples.groups, dtype=str)[samples.group]
    folds = None
    if samples.folds is not None:
        folds = [samples.folds[group] for group in samples.group.tolist()]
    splits = make_splits(config, names.tolist(), samples.target, samples.classes, folds)
    for split in splits:
        counts = np.bincount(
            samples.target[split.train], minlength=len(samples.classes)
        )
        if (counts == 0).any():
            name = samples.classes[int(np.flatnonzero(counts == 0)[0])]
            raise InputError(
                f"split: class {name!r} has no training tile in fold {split.fold} of "
                f"repeat {split.repeat}: use fewer folds, a lower split.validation "
                f"(now {config.validation:g}), or leave it out by target.classes"
            )
    return splits


def recipe(config: TileHeadConfig, samples: TileSamples) -> dict[str, Any]:
    """The settings and data that decide the result; no paths."""
    names = {*TileModelConfig.model_fields, "split"}
    settings = config.model_dump(mode="json", include=names)
    # What fits one window is shuffled wholly, whatever its size.
    window = config.runtime.window if len(samples) > config.runtime.window else None
    settings["noise"] = by_content(NOISES, config.noise)
    if not config.mixup:  # as before it was a key
        del settings["mixup"]
    if config.clip is None:  # likewise
        del settings["clip"]
    return settings | {"data": samples.identity, "window": window}


def fit_folds(
    samples: TileSamples,
    splits: Sequence[Split],
    config: TileHeadConfig,
    device: torch.device,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[Split, TileModel]]:
    """Train the model of each split in turn.

    Tiles that are in a training part several times weigh as often.
    """
    moments = group_moments(samples)
    for done, split in enumerate(splits, start=1):
        train = np.sort(split.train)
        prepare = fit_preparation(samples, moments, train, config)
        model = fit_head(
            samples, prepare, train, np.sort(split.validation), config,
            (split.repeat, split.fold), config.runtime.window, device,
        )  # fmt: skip
        yield split, model
        on_fold(done, len(splits))


def cross_validate(
    samples: TileSamples,
    splits: Sequence[Split],
    config: TileHeadConfig,
    device: torch.device,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
    on_model: Callable[[Split, TileModel], None] = lambda split, model: None,
) -> tuple[list[TileModel], np.ndarray]:
    """Train every fold's model; return them and out-of-fold probabilities.

    ``on_model`` is called with each model when it has been tested.

    Returns:
        The models, and float32 [repeats, N, C], NaN for tiles that no fold tests.
    """
    models: list[TileModel] = []
    repeats = 1 + max(split.repeat for split in splits)
    shape = (repeats, len(samples), len(samples.classes))
    found = np.full(shape, np.nan, np.float32)
    for split, model in fit_folds(samples, splits, config, device, on_fold):
        test = np.sort(split.test)
        found[split.repeat, test] = predict_tiles(
            samples, model.model, model.prepare, test
        )
        models.append(model)
        on_model(split, model)
    return models, found


def measure(samples: TileSamples, probabilities: np.ndarray) -> list[TileMetrics]:
    """Metrics of each repeat's out-of-fold probabilities [repeats, N, C]."""
    found = []
    for part in probabilities:
        rows = np.flatnonzero(np.isfinite(part[:, 0]))
        target, group = samples.target[rows], samples.group[rows]
        found.append(tile_metrics(part[rows], target, group))
    return found


def as_numbers(found: Sequence[TileMetrics]) -> dict[str, float]:
    """``test_<metric>_mean``, ``_ci_low`` and ``_ci_high``: means over repeats."""
    numbers: dict[str, float] = {}
    for name in METRICS:
        intervals = [metrics.interval(name) for metrics in found]
        for end, key in (("value", "mean"), ("low", "ci_low"), ("high", "ci_high")):
            values = [getattr(interval, end) for interval in intervals]
            numbers[f"test_{name}_{key}"] = float(np.mean(values))
    return numbers


def write_result(
    folder: Path,
    samples: TileSamples,
    splits: Sequence[Split],
    models: Sequence[TileModel],
    probabilities: np.ndarray,
    config: TileHeadConfig,
) -> dict[str, float]:
    """Write ``folder``, whole or not at all, and return the metrics.

    ``config.yaml``, ``metrics.json``, ``predictions.parquet``, ``history.json``,
    ``head/``.
    """
    metrics = as_numbers(measure(samples, probabilities))
    temporary = temporary_beside(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    by_slide = config.target.table is None and config.target.column != ANNOTATION
    column = config.target.column if by_slide else None
    save_heads(temporary / "head", samples, splits, models, config, column)
    write_predictions(temporary / PREDICTIONS, samples, splits, probabilities)
    history = [
        {"repeat": s.repeat, "fold": s.fold, "epochs": m.epochs, "history": m.history}
        for s, m in zip(splits, models, strict=True)
    ]
    (temporary / "history.json").write_text(json.dumps(history))
    (temporary / CONFIG).write_text(to_yaml(config))
    write_metrics(temporary, metrics)
    os.rename(temporary, folder)
    return metrics


def read_metrics(folder: Path) -> dict[str, float] | None:
    """The metrics that ``write_result`` wrote, or None if it has not finished."""
    file = folder / METRICS_FILE
    if not file.is_file():
        return None
    found = json.loads(file.read_text())
    found.pop("intervals", None)
    return {k: math.nan if v is None else v for k, v in found.items()}


def write_predictions(
    path: Path, samples: TileSamples, splits: Sequence[Split], probabilities: np.ndarray
) -> None:
    """Write a row a test tile and repeat.

    ``probabilities``: [repeats, N, C]; tiles without are left out.
    """
    parts = []
    for split in splits:
        rows = np.sort(split.test)
        rows = rows[np.isfinite(probabilities[split.repeat, rows, 0])]
        parts.append((split, rows, probabilities[split.repeat, rows]))
    write_tile_predictions(path, samples, parts)
