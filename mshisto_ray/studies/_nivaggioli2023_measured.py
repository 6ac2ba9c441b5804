"""An arm of Nivaggioli 2023 on a task: its metrics over repeats, and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.tile_metrics import (
    METRICS,
    TileMetrics,
    mean_metrics,
    tile_metrics,
)
from mshisto_ray.statistics.bootstrap import SEED, Interval, percentile_interval
from mshisto_ray.studies import _study


@dataclass(frozen=True)
class Measured:
    """Metrics of an arm on a task, and its tiles in the order of their names.

    ``metrics``: means over repeats; ``spread``: standard deviations over them, NaN of
    one; ``seconds``: CPU time of training a repeat; ``embedding``: of reading and
    embedding all tiles of the task; NaN where it was not measured.
    """

    metrics: TileMetrics
    spread: Mapping[str, float]
    tiles: tuple[str, ...]
    seconds: float
    embedding: float


def measure(found: Predictions, seconds: float, embedding: float) -> Measured:
    """Metrics of tiles with intervals over their patients or blocks, and repeats."""
    found = found.take(np.argsort(found.bag.astype(str), kind="stable"))
    group = np.unique(found.patient_id.astype(str), return_inverse=True)[1]
    repeats = [found.repeat == number for number in np.unique(found.repeat)]
    parts = [
        tile_metrics(found.probabilities[rows], found.target[rows], group[rows])
        for rows in repeats
    ]
    values = {n: [part.values[n] for part in parts] for n in METRICS}
    spread = {n: _deviation(v) for n, v in values.items()}
    tiles = tuple(found.bag[repeats[0]].tolist())
    return Measured(_over_repeats(parts), spread, tiles, seconds, embedding)


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _over_repeats(parts: Sequence[TileMetrics]) -> TileMetrics:
    """Means over repeats, whose replicates draw groups and repeats.

    All arms draw the same repeats, as a repeat has the same folds in each. Drawn means
    of K repeats vary by (K - 1) / K of what such means do, which is made up for.
    """
    mean = mean_metrics(parts)
    number, wider = len(parts), 1.0
    if number > 1:
        wider = (number / (number - 1)) ** 0.5
    drawn = {}
    for name, average in mean.replicates.items():
        each = np.stack([part.replicates[name] for part in parts])
        generator = np.random.default_rng(SEED)
        chosen = generator.integers(number, size=each.shape)
        moved = np.take_along_axis(each, chosen, axis=0).mean(axis=0)
        drawn[name] = average + wider * (moved - average)
    return replace(mean, replicates=drawn)


def difference(one: Measured | None, other: Measured | None, metric: str) -> str:
    """One less the other with a 95 % interval, paired on draws of groups and repeats.

    Empty where one of them is not done, or they are of other tiles. The
    difference alone where groups are too few for an interval of the metric.
    """
    if one is None or other is None or one is other or one.tiles != other.tiles:
        return ""
    value = one.metrics.values[metric] - other.metrics.values[metric]
    if np.isnan(one.metrics.interval(metric).low):
        return _signed(value)
    draws = one.metrics.replicates[metric] - other.metrics.replicates[metric]
    found: Interval = percentile_interval(value, draws)
    return f"{_signed(found.value)} ({_signed(found.low)} to {_signed(found.high)})"


def _signed(value: float) -> str:
    return _study.short(value).replace("-0.", "-.")
