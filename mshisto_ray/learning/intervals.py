"""Patient-bootstrap intervals of metrics, and paired comparison of two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.metrics import METRICS, classification_metrics
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.statistics.bootstrap import (
    REPLICATES,
    SEED,
    Interval,
    draw_counts,
    percentile_interval,
)

_CHUNK_BYTES = 1 << 25


def intervals(predictions: Predictions) -> dict[str, Interval]:
    """Every metric with its 95 % patient-bootstrap interval.

    The value: the metric of each repeat's predictions of all folds pooled, then the
    mean over repeats. The interval: patients are drawn with replacement, as many as
    there are; a drawn patient brings all its rows, in every repeat, as often as it
    was drawn; the value is computed anew; the 2.5 and 97.5 percentiles of 1000 such
    draws. A draw without a class is skipped for the metrics that need the class. The
    draws are the same every time.

    The interval covers the sampling of patients. It holds the trained models fixed, so
    the variation between training sets is not included.
    """
    rows = _by_repeat(predictions)
    values, replicates = _resampled(predictions, rows, _patients(predictions)[1])
    return {
        name: percentile_interval(values[name], replicates[name]) for name in METRICS
    }


@dataclass(frozen=True)
class Comparison:
    """Metric of two models on the same bags, and their difference (first - second)."""

    metric: str
    first: float
    second: float
    difference: Interval


def compare(
    first: Predictions, second: Predictions, metric: str = "auroc"
) -> Comparison:
    """Paired patient bootstrap: both models are resampled with the same patients.

    Each model's value is that of ``intervals``, over its own repeats. An interval of
    the difference that excludes 0 is evidence that the models differ on patients like
    these.

    Raises:
        InputError: another metric than ``METRICS``, or tables that do not hold the
            same bags, patients, targets and classes.
    """
    if metric not in METRICS:
        raise InputError(f"no metric {metric!r}; have {', '.join(METRICS)}")
    _check_same_bags(first, second)
    drawn = []
    for model in (first, second):
        rows = _by_repeat(model)
        drawn.append(_resampled(model, rows, _patients(model)[1], (metric,)))
    (one, ones), (two, twos) = drawn
    gap = percentile_interval(one[metric] - two[metric], ones[metric] - twos[metric])
    return Comparison(metric, one[metric], two[metric], gap)


def _resampled(
    predictions: Predictions,
    rows: Sequence[np.ndarray],
    patient: np.ndarray,
    names: Sequence[str] = METRICS,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Mean over repeats of each metric: its value, and its replicates [R]."""
    num_patients = int(patient.max()) + 1
    generator = np.random.default_rng(SEED)
    widest = max(len(index) for index in rows)
    step = max(1, _CHUNK_BYTES // (8 * max(widest, num_patients)))
    values = _mean_over_repeats(predictions, rows, [None] * len(rows), names)
    parts = []
    for start in range(0, REPLICATES, step):
        size = min(step, REPLICATES - start)
        counts = draw_counts(num_patients, size, generator).astype(np.float64)
        weights = [counts[:, patient[index]] for index in rows]
        parts.append(_mean_over_repeats(predictions, rows, weights, names))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return {name: float(values[name][0]) for name in names}, joined


def _mean_over_repeats(
    predictions: Predictions,
    rows: Sequence[np.ndarray],
    weights: Sequence[np.ndarray | None],
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    found = [
        classification_metrics(
            predictions.probabilities[index], predictions.target[index], weight
        )
        for index, weight in zip(rows, weights, strict=True)
    ]
    return {name: np.mean([f[name] for f in found], axis=0) for name in names}


def _patients(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Distinct patients, sorted, and each row's index into them."""
    return np.unique(predictions.patient_id.astype(str), return_inverse=True)


def _by_repeat(predictions: Predictions) -> list[np.ndarray]:
    repeats = np.unique(predictions.repeat)
    return [np.flatnonzero(predictions.repeat == repeat) for repeat in repeats]


def _check_same_bags(first: Predictions, second: Predictions) -> None:
    if first.classes != second.classes:
        raise InputError(
            f"predictions of different classes cannot be compared: {first.classes} "
            f"and {second.classes}"
        )
    keys = []
    for model in (first, second):
        for index in _by_repeat(model):
            rows = zip(
                model.bag[index], model.patient_id[index], model.target[index],
                strict=True,
            )  # fmt: skip
            keys.append(sorted((b, p, int(t)) for b, p, t in rows))
    for key in keys[1:]:
        if key != keys[0]:
            odd = sorted({k[0] for k in set(key) ^ set(keys[0])})
            raise InputError(
                f"predictions of different bags cannot be compared: {len(odd)} differ "
                f"in bag, patient or target ({', '.join(map(str, odd[:3]))})"
            )
