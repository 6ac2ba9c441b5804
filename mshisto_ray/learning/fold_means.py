"""Metrics that rank rows, within folds: beside the same of all folds pooled.

Pooled, the rows of all folds are ranked as one, so that the levels of the fold models
count, which none of them was trained to share: each may rank its own fold well and all
of them together badly (Forman and Scholz 2010; Airola et al. 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from mshisto_ray.learning.metrics import classification_metrics
from mshisto_ray.learning.predictions import Predictions

RANKED = ("auroc", "pr_auc")
_OF_FOLDS = "_of_folds"
APART = (
    "which is further apart than half the interval is wide: fold models give "
    "probabilities of different levels, so that the pooled value says how their levels "
    "differ as much as how they rank. Read the mean over folds for how one model "
    "ranks, and calibrate (decision.calibration) or take larger folds before a "
    "threshold is set for all"
)


def fold_means(test: Predictions) -> dict[str, float]:
    """``test_auroc_of_folds`` and ``test_pr_auc_of_folds``: the mean over fold models.

    Of the models whose test rows have both classes; NaN without any. None of targets
    other than classes.
    """
    if not test.kind.of_classes:
        return {}
    rows = np.stack([test.repeat, test.fold], 1)

    def of_model(own: np.ndarray) -> Mapping[str, np.ndarray]:
        part = test.take(own)
        return test.kind.measure(part.probabilities, part.target, part.fold)

    return of_folds(_means(rows, of_model))


def within_folds(
    probabilities: np.ndarray, target: np.ndarray, model: np.ndarray
) -> dict[str, float]:
    """``auroc`` and ``pr_auc`` as means over fold models; see ``fold_means``.

    Args:
        probabilities: out of fold, [N, C].
        target: class index [N].
        model: number of the fold model that gave a row its probabilities [N].
    """
    return _means(
        model[:, None],
        lambda own: classification_metrics(probabilities[own], target[own]),
    )


def of_folds(found: Mapping[str, float]) -> dict[str, float]:
    """The means of ``within_folds`` by their names in ``metrics.json``."""
    return {f"test_{name}{_OF_FOLDS}": value for name, value in found.items()}


def _means(
    model: np.ndarray, measure: Callable[[np.ndarray], Mapping[str, np.ndarray]]
) -> dict[str, float]:
    """``model``: [N, K], one row of numbers a model; ``measure``: of a mask of rows."""
    found: dict[str, list[float]] = {name: [] for name in RANKED}
    for number in np.unique(model, axis=0):
        values = measure((model == number).all(1))
        defined = math.isfinite(values["auroc"][0])
        for name in RANKED if defined else ():
            found[name].append(float(values[name][0]))
    return {n: float(np.mean(v)) if v else math.nan for n, v in found.items()}


def fold_mean(metrics: Mapping[str, float], name: str) -> float | None:
    """The mean over folds of a metric in ``metrics.json``; None: it is not there."""
    value = metrics.get(f"test_{name}{_OF_FOLDS}", math.nan)
    return value if math.isfinite(value) else None


def pooling_notes(metrics: Mapping[str, float], titles: Mapping[str, str]) -> list[str]:
    """A line for each metric whose pooled value lies far from the mean over folds.

    Far: further than half the width of the pooled value's 95 % interval.

    Args:
        metrics: of ``result_files.measure``.
        titles: of metrics.
    """
    return [
        f"{titles[name]} of all folds pooled is {pooled:.3f}, within folds "
        f"{inside:.3f} on average, {APART}"
        for name, pooled, inside in pooled_apart(metrics)
    ]


def pooled_apart(metrics: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Metrics whose pooled value lies far from the mean over folds, and both values."""
    found = []
    for name in RANKED:
        inside = fold_mean(metrics, name)
        keys = (f"test_{name}_{end}" for end in ("mean", "ci_low", "ci_high"))
        pooled, low, high = (metrics.get(key, math.nan) for key in keys)
        if inside is not None and abs(pooled - inside) > (high - low) / 2:
            found.append((name, pooled, inside))
    return found
