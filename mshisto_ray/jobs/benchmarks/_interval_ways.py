"""Ways to make intervals of AUROCs, of differences and of other metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from mshisto_ray.jobs.benchmarks._cohorts import (
    Cohorts,
    Setting,
    auroc_replicates,
    simulate,
)
from mshisto_ray.learning.comparison import difference
from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.intervals import interval
from mshisto_ray.learning.metrics import METRICS, classification_metrics
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.statistics.bootstrap import Interval, percentile_interval
from mshisto_ray.statistics.delong import AurocParts, auroc_parts, join
from mshisto_ray.statistics.paired import difference_interval, patient_correlation
from mshisto_ray.statistics.score_interval import (
    Theory,
    auroc_theory,
    effective_patients,
    score_interval,
)

Ends = tuple[np.ndarray, np.ndarray]
_LEVEL = (2.5, 97.5)
_LARGE = 100_000
_Z = float(norm.ppf(0.975))


def auroc_ways(cohorts: Cohorts, replicates: int) -> Mapping[str, Ends]:
    """Intervals of each cohort's AUROC, [S] and [S], by way."""
    parts, theory = _parts(cohorts, 0), _theory(cohorts)
    value = parts.auroc[0]
    variance, degrees = parts.variance(np.eye(len(value)))
    error = np.sqrt(variance)
    drawn = np.percentile(auroc_replicates(cohorts, 0, replicates), _LEVEL, axis=1)
    inner = (value > 0) & (value < 1)
    safe = np.where(inner, value, 0.5)
    slope = error / (safe * (1 - safe))
    logits = [np.where(inner, expit(logit(safe) + s * _Z * slope), value)
              for s in (-1, 1)]  # fmt: skip
    unknown = np.full(value.shape, np.nan)
    return {
        "percentile bootstrap": (drawn[0], drawn[1]),
        "DeLong": (value - _Z * error, np.minimum(value + _Z * error, 1)),
        "DeLong, logit": (logits[0], logits[1]),
        "Newcombe": score_interval(value, unknown, unknown, theory),
        "score": score_interval(value, variance, degrees, theory),
    }


def difference_ways(cohorts: Cohorts, replicates: int) -> Mapping[str, Ends]:
    """Intervals of the first model's AUROC less the second's, by way."""
    first, second = (_parts(cohorts, model) for model in (0, 1))
    gap = first.auroc[0] - second.auroc[0]
    num = len(gap)
    weights = np.concatenate([np.eye(num), -np.eye(num)])
    error = np.sqrt(join([first, second]).variance(weights)[0])
    drawn = auroc_replicates(cohorts, 0, replicates)
    drawn = drawn - auroc_replicates(cohorts, 1, replicates)
    low, high = np.percentile(drawn, _LEVEL, axis=1)
    theory = _theory(cohorts)
    return {
        "percentile bootstrap": (low, high),
        "DeLong": (gap - _Z * error, gap + _Z * error),
        "opposite ends": _combined(first, second, error**2, theory, _opposite_ends),
        "score": _combined(first, second, error**2, theory, difference_interval),
    }


def _opposite_ends(first: Interval, second: Interval, correlation: float) -> Interval:
    """Zou's (2007) combination, which ``difference_interval`` departs from."""
    value = first.value - second.value
    below, above = (
        np.sqrt(max(one**2 + two**2 - 2 * correlation * one * two, 0.0))
        for one, two in (
            (first.value - first.low, second.high - second.value),
            (first.high - first.value, second.value - second.low),
        )
    )
    return Interval(value, value - below, value + above)


def _combined(
    first: AurocParts,
    second: AurocParts,
    of_gap: np.ndarray,
    theory: Theory,
    combine: Callable[[Interval, Interval, float], Interval],
) -> Ends:
    ends, own = [], []
    for parts in (first, second):
        value = parts.auroc[0]
        variance, degrees = parts.variance(np.eye(len(value)))
        ends.append((value, *score_interval(value, variance, degrees, theory)))
        own.append(variance)
    first_ends, second_ends = (np.transpose(of) for of in ends)
    found = []
    for one, two, *of in zip(first_ends, second_ends, *own, of_gap, strict=True):
        first_own, second_own, gap = map(float, of)
        r = patient_correlation(first_own, second_own, gap, theory.step)
        found.append(combine(Interval(*one), Interval(*two), r))
    return np.array([f.low for f in found]), np.array([f.high for f in found])


def _parts(cohorts: Cohorts, model: int) -> AurocParts:
    num = int(cohorts.patient[-1]) + 1
    return auroc_parts(cohorts.scores[model], cohorts.truth, cohorts.patient, num)


def _theory(cohorts: Cohorts) -> Theory:
    positive, negative = (
        effective_patients(np.bincount(cohorts.patient[rows]).astype(float))
        for rows in (cohorts.truth, ~cohorts.truth)
    )
    return auroc_theory([(positive, negative)])


def metric_ways(cohorts: Cohorts, threshold: float) -> dict[str, dict[str, Ends]]:
    """Intervals of every metric but AUROC, by metric and way, cohort by cohort."""
    names = [name for name in METRICS if name != "auroc"]
    found: dict[str, dict[str, list[Interval]]] = {
        name: {"percentile bootstrap": [], "score": []} for name in names
    }
    for scores in cohorts.scores[0].T:
        estimates = Estimates(_predictions(cohorts, scores - threshold))
        for name in names:
            value, drawn = estimates.values[name], estimates.replicates[name]
            ways = found[name]
            ways["percentile bootstrap"].append(percentile_interval(value, drawn))
            ways["score"].append(interval(estimates, name))
    return {
        name: {way: (np.array([i.low for i in all_cohorts]),
                     np.array([i.high for i in all_cohorts]))
               for way, all_cohorts in ways.items()}
        for name, ways in found.items()
    }  # fmt: skip


def accuracy_gap_ways(cohorts: Cohorts, thresholds: Sequence[float]) -> dict[str, Ends]:
    """Intervals of the first model's accuracy less the second's, by way."""
    found: dict[str, list[Interval]] = {"percentile bootstrap": [], "score": []}
    for pair in np.moveaxis(cohorts.scores, 2, 0):
        one, two = (
            Estimates(_predictions(cohorts, scores - threshold))
            for scores, threshold in zip(pair, thresholds, strict=True)
        )
        drawn = one.replicates["accuracy"] - two.replicates["accuracy"]
        value = one.values["accuracy"] - two.values["accuracy"]
        found["percentile bootstrap"].append(percentile_interval(value, drawn))
        found["score"].append(difference(one, two, "accuracy"))
    return {
        way: (np.array([i.low for i in all_cohorts]),
              np.array([i.high for i in all_cohorts]))
        for way, all_cohorts in found.items()
    }  # fmt: skip


def true_metrics(setting: Setting) -> dict[str, float]:
    """Every metric in a cohort so large that it hardly varies."""
    large = replace(setting, patients=_LARGE)
    cohorts = simulate(large, 1, np.random.default_rng(1), (large.shift,))
    logits = cohorts.scores[0, :, 0] - large.shift / 2
    found = classification_metrics(_probabilities(logits), cohorts.truth.astype(int))
    return {name: float(values[0]) for name, values in found.items()}


def _probabilities(logits: np.ndarray) -> np.ndarray:
    return np.stack([expit(-logits), expit(logits)], 1)


def _predictions(cohorts: Cohorts, logits: np.ndarray) -> Predictions:
    zeros = np.zeros(len(logits), np.int64)
    return Predictions(
        classes=("negative", "positive"),
        bag=np.arange(len(logits)).astype(str),
        slide_id=np.full(len(logits), None, dtype=object),
        patient_id=cohorts.patient,
        target=cohorts.truth.astype(np.int64),
        fold=zeros,
        repeat=zeros,
        probabilities=_probabilities(logits),
    )
