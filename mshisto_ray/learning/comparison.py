"""Paired comparison of models on the same patients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.intervals import estimate, interval
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.tile_estimates import TileEstimates
from mshisto_ray.statistics.bootstrap import Interval, percentile_interval
from mshisto_ray.statistics.delong import join
from mshisto_ray.statistics.paired import (
    corrected_resampled_t,
    difference_interval,
    holm,
    p_value,
    patient_correlation,
)


@dataclass(frozen=True)
class Comparison:
    """Metric of two models on the same bags, and their difference (first - second).

    ``p``: two-sided, of no difference on patients like these; ``p_holm``: the same
    after Holm's correction for all comparisons made together; ``p_folds``: of the
    corrected resampled t test over folds, NaN where folds are too few.
    """

    metric: str
    first: float
    second: float
    difference: Interval
    p: float
    p_holm: float
    p_folds: float
    less_is_better: bool = False

    @property
    def worse(self) -> bool:
        """Whether the first model does worse than the second."""
        gap = self.difference.value
        return gap > 0 if self.less_is_better else gap < 0


def compare(
    first: Predictions, second: Predictions, metric: str = "auroc"
) -> Comparison:
    """Compare two models on the same patients.

    Each model's value is that of ``intervals``, over its own repeats; the interval of
    the difference combines those of both (``difference_interval``) with their
    correlation over patients (``patient_correlation``): DeLong's by patient for AUROC,
    that of 1000 paired bootstrap replicates for others; where the target is not
    classes, it is that of the percentiles of the paired differences. An interval that
    excludes 0 (p below .05) is evidence that these trained models differ on patients
    like these.

    Raises:
        InputError: a metric that the target does not have, or tables that do not hold
            the same bags, patients, targets and classes.
    """
    return compare_all([first], second, metric)[0]


def compare_all(
    models: Iterable[Predictions], reference: Predictions, metric: str = "auroc"
) -> list[Comparison]:
    """Compare each model with a reference as ``compare`` does, with Holm over all."""
    known = estimate(reference)
    _check_metric(metric, known)
    found = []
    for model in models:
        check_same_bags(model, reference)
        found.append(_compare(model, reference, estimate(model), known, metric))
    adjusted = holm(np.array([comparison.p for comparison in found]))
    return [
        replace(comparison, p_holm=float(p))
        for comparison, p in zip(found, adjusted, strict=True)
    ]


def compare_pairs(
    models: Mapping[str, Predictions], metric: str = "auroc"
) -> dict[tuple[str, str], Comparison]:
    """Compare every two models as ``compare`` does, with Holm over all pairs.

    Returns:
        By the names of the first and the second, who comes earlier and later.
    """
    known = {name: estimate(model) for name, model in models.items()}
    for own in known.values():
        _check_metric(metric, own)
    found: dict[tuple[str, str], Comparison] = {}
    for one, two in combinations(models, 2):
        first, second = models[one], models[two]
        check_same_bags(first, second)
        found[one, two] = _compare(first, second, known[one], known[two], metric)
    adjusted = holm(np.array([c.p for c in found.values()]))
    each = zip(found.items(), adjusted.tolist(), strict=True)
    return {key: replace(c, p_holm=p) for (key, c), p in each}


def _check_metric(metric: str, known: Estimates | TileEstimates) -> None:
    if metric not in known.names:
        raise InputError(f"no metric {metric!r}; have {', '.join(known.names)}")


def _compare(
    model: Predictions,
    reference: Predictions,
    own: Estimates | TileEstimates,
    known: Estimates | TileEstimates,
    metric: str,
) -> Comparison:
    same = _same_probabilities(model, reference)
    gap = Interval(0.0, 0.0, 0.0) if same else difference(own, known, metric)
    values = own.values[metric], known.values[metric]
    p, over_folds = p_value(gap), _over_folds(model, reference, metric)
    less = metric in known.kind.lower_is_better
    return Comparison(metric, *values, gap, p, p, over_folds, less)


def difference(
    first: Estimates | TileEstimates, second: Estimates | TileEstimates, metric: str
) -> Interval:
    """A metric of the first model less that of the second, as ``compare`` gives it."""
    if (
        isinstance(first, TileEstimates)
        or isinstance(second, TileEstimates)
        or not second.kind.of_classes
    ):
        gaps = first.replicates[metric] - second.replicates[metric]
        return percentile_interval(first.values[metric] - second.values[metric], gaps)
    ends = interval(first, metric), interval(second, metric)
    return difference_interval(*ends, _correlation(first, second, metric))


def _correlation(first: Estimates, second: Estimates, metric: str) -> float:
    """Correlation of a metric of both models over samples of patients.

    0 where it is not known: a model is right on all patients, or one patient has all.
    """
    if np.isnan(first.values[metric] + second.values[metric]):
        return 0.0
    one, two = (e.variance(metric)[0] for e in (first, second))
    gap = _variance_of_difference(first, second, metric)
    step = max(e.theory(metric).step for e in (first, second))
    return patient_correlation(one, two, gap, step)


def _variance_of_difference(first: Estimates, second: Estimates, metric: str) -> float:
    if metric == "auroc":
        sizes = first.areas.auroc.size, second.areas.auroc.size
        weights = np.repeat([1 / sizes[0], -1 / sizes[1]], sizes)
        both = join([first.areas, second.areas])
        return float(both.variance(weights[:, None])[0][0])
    gaps = first.replicates[metric] - second.replicates[metric]
    num = first.theory(metric).patients
    usable = gaps[np.isfinite(gaps)]
    if num <= 1 or len(usable) < 2:
        return np.nan
    return float(usable.var(ddof=1)) * num / (num - 1)


def _over_folds(first: Predictions, second: Predictions, metric: str) -> float:
    """P of the corrected resampled t test; NaN where folds differ."""
    one, two = (by_fold(model, metric) for model in (first, second))
    if one.keys() != two.keys():
        return float("nan")
    folds = len({fold for _, fold in one})
    if folds < 2:
        return float("nan")
    gaps = np.array([one[key] - two[key] for key in one])
    return corrected_resampled_t(gaps, 1 / (folds - 1))


def by_fold(model: Predictions, metric: str) -> dict[tuple[int, int], float]:
    """The metric within each (repeat, fold), the rows of each fold model."""
    found = {}
    models = np.unique(np.stack([model.repeat, model.fold], 1), axis=0)
    for repeat, fold in models.tolist():
        rows = (model.repeat == repeat) & (model.fold == fold)
        given = model.probabilities[rows], model.target[rows], model.fold[rows]
        metrics = model.kind_of(repeat).measure(*given)
        found[repeat, fold] = float(metrics[metric][0])
    return found


def _same_probabilities(first: Predictions, second: Predictions) -> bool:
    orders = [np.lexsort((m.bag.astype(str), m.repeat)) for m in (first, second)]
    one, two = (
        m.probabilities[order] for m, order in zip((first, second), orders, strict=True)
    )
    return one.shape == two.shape and bool((one == two).all())


def check_same_bags(first: Predictions, second: Predictions) -> None:
    """Refuse tables that do not hold the same bags, patients, targets and classes.

    Raises:
        InputError: names what differs.
    """
    if first.classes != second.classes or first.kind.kind != second.kind.kind:
        raise InputError(
            f"predictions of different classes cannot be compared: {first.classes} "
            f"and {second.classes}"
        )
    keys = []
    for model in (first, second):
        for repeat in np.unique(model.repeat):
            index = np.flatnonzero(model.repeat == repeat)
            rows = zip(
                model.bag[index], model.patient_id[index], model.target[index],
                strict=True,
            )  # fmt: skip
            keys.append(sorted((b, p, repr(t.tolist())) for b, p, t in rows))
    for key in keys[1:]:
        if key != keys[0]:
            odd = sorted({k[0] for k in set(key) ^ set(keys[0])})
            raise InputError(
                f"predictions of different bags cannot be compared: {len(odd)} differ "
                f"in bag, patient or target ({', '.join(map(str, odd[:3]))})"
            )
