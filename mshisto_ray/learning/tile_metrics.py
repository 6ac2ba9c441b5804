"""Metrics of many tiles with intervals over patients, whose memory is that of counts.

A bootstrap replicate draws patients. What it needs of a patient is how many tiles of
each class were called what (C x C numbers) and how its tiles' scores are spread (the
tiles of and not of a class in each of at most ``_BINS`` ranges): sums of those over the
drawn patients give every metric of the replicate, whatever the number of tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mshisto_ray.learning.metrics import decide
from mshisto_ray.statistics.bootstrap import (
    REPLICATES,
    SEED,
    Interval,
    draw_counts,
    percentile_interval,
)
from mshisto_ray.statistics.rank_metrics import rank_metrics, weighted_ratio
from mshisto_ray.statistics.score_interval import (
    Theory,
    auroc_theory,
    effective_patients,
    score_interval,
    share_theory,
)

METRICS = (
    "balanced_accuracy",
    "kappa",
    "weighted_f1",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "pr_auc",
    "auroc",
)
_BINS = 512
_REPLICATES_AT_ONCE = 100


@dataclass(frozen=True)
class TileMetrics:
    """``values``: each of ``METRICS``; ``replicates``: of each, [R].

    ``of_folds``: of metrics that rank, the means over fold models, where they are known
    (``learning.fold_means``).
    """

    values: dict[str, float]
    replicates: dict[str, np.ndarray]
    theories: dict[str, Theory]
    of_folds: dict[str, float] = field(default_factory=dict)

    def interval(self, name: str) -> Interval:
        """A metric with its 95 % interval over patients.

        Score intervals of the bootstrap's variance, which keep a width at 0 and 1
        (``statistics.score_interval``); of kappa, which may be negative, percentiles.
        """
        value, found = self.values[name], self.replicates[name]
        if name not in self.theories:
            return percentile_interval(value, found)
        variance, degrees = self.variance(name)
        if not np.isfinite(value) or not np.isfinite(variance):
            return Interval(value, np.nan, np.nan)
        low, high = score_interval(
            np.array([value]),
            np.array([variance]),
            np.array([degrees]),
            self.theories[name],
        )
        return Interval(value, float(low[0]), float(high[0]))

    def variance(self, name: str) -> tuple[float, float]:
        """Variance of a metric over patients, and degrees of freedom of the estimate.

        NaN where it is not known.
        """
        found = self.replicates[name]
        usable = found[np.isfinite(found)]
        # Of kappa, which has no theory, patients count as they are.
        num = self.theories[name].patients if name in self.theories else np.inf
        if num <= 1 or len(usable) < 2:
            return np.nan, np.nan
        shrunk = num / (num - 1) if np.isfinite(num) else 1.0
        return float(usable.var(ddof=1)) * shrunk, num - 1


def tile_metrics(
    probabilities: np.ndarray, target: np.ndarray, patient: np.ndarray
) -> TileMetrics:
    """Every metric of tiles with its bootstrap over patients.

    Values equal scikit-learn's: ``balanced_accuracy``, ``kappa`` (Cohen's, unweighted)
    and ``weighted_f1`` over the classes that occur; ``precision``, ``recall``, ``f1``,
    ``pr_auc`` (average precision) and ``auroc`` of the second of two classes, of more
    the mean over classes, each against the rest. In replicates, and in nothing else,
    scores are rounded to ``_BINS`` quantiles.

    Args:
        probabilities: [N, C].
        target: class index [N].
        patient: number of the patient (or other independent group) of each tile [N].
    """
    numbers, patient = np.unique(patient, return_inverse=True)
    num, classes = len(numbers), probabilities.shape[1]
    called = decide(probabilities)
    flat = (patient * classes + target) * classes + called
    confusion = np.bincount(flat, minlength=num * classes**2)
    confusion = confusion.reshape(num, classes, classes)
    positives = [1] if classes == 2 else list(range(classes))
    exact = [
        rank_metrics(probabilities[:, c], target == c, np.ones((1, len(target))))
        for c in positives
    ]
    spread = [
        _Spread.of(probabilities[:, c], target == c, patient, num) for c in positives
    ]
    values = _from_confusion(confusion.sum(0, keepdims=True), positives)
    for name in ("pr_auc", "auroc"):
        values[name] = np.mean([part[name] for part in exact], axis=0)
    replicates = _replicates(confusion, spread, positives) if num > 1 else {}
    return TileMetrics(
        {name: float(values[name][0]) for name in METRICS},
        {name: replicates.get(name, np.zeros(0)) for name in METRICS},
        _theories(confusion.sum(2), positives),
    )


def mean_metrics(found: Sequence[TileMetrics]) -> TileMetrics:
    """Means of the metrics of repeats on the same patients."""
    return TileMetrics(
        {n: float(np.mean([f.values[n] for f in found])) for n in METRICS},
        {n: np.mean([f.replicates[n] for f in found], axis=0) for n in METRICS},
        found[0].theories,
    )


@dataclass(frozen=True)
class _Spread:
    """Tiles of each patient by range of score: of the class, and of others, [P, B]."""

    score: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    @classmethod
    def of(
        cls, score: np.ndarray, truth: np.ndarray, patient: np.ndarray, num: int
    ) -> _Spread:
        levels = np.unique(score)
        if len(levels) > _BINS:
            places = np.linspace(0, len(score) - 1, _BINS).round().astype(int)
            levels = np.unique(np.partition(score, np.unique(places))[places])
        at = np.minimum(np.searchsorted(levels, score), len(levels) - 1)
        flat, size = patient * len(levels) + at, num * len(levels)
        parts = [
            np.bincount(flat[rows], minlength=size).reshape(num, -1)
            for rows in (truth, ~truth)
        ]
        return cls(levels, *parts)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """AUROC and PR-AUC of replicates, from how often each patient was drawn."""
        weights = np.concatenate([counts @ self.positive, counts @ self.negative], 1)
        truth = np.repeat([True, False], len(self.score))
        return rank_metrics(np.tile(self.score, 2), truth, weights.astype(float))


def _replicates(
    confusion: np.ndarray, spread: list[_Spread], positives: list[int]
) -> dict[str, np.ndarray]:
    num = len(confusion)
    generator = np.random.default_rng(SEED)
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, REPLICATES, _REPLICATES_AT_ONCE):
        size = min(_REPLICATES_AT_ONCE, REPLICATES - start)
        counts = draw_counts(num, size, generator)
        drawn = (counts @ confusion.reshape(num, -1)).reshape(
            size, *confusion.shape[1:]
        )
        found = _from_confusion(drawn, positives)
        ranks = [part.metrics(counts) for part in spread]
        for name in ("pr_auc", "auroc"):
            found[name] = np.mean([part[name] for part in ranks], axis=0)
        parts.append(found)
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def _from_confusion(
    confusion: np.ndarray, positives: list[int]
) -> dict[str, np.ndarray]:
    """Metrics of R confusion matrices [R, C, C]: truth by row, call by column."""
    total = confusion.sum((1, 2)).astype(float)
    hits = np.diagonal(confusion, axis1=1, axis2=2).astype(float)
    truth, called = confusion.sum(2).astype(float), confusion.sum(1).astype(float)
    recall = weighted_ratio(hits, truth)
    precision = weighted_ratio(hits, called, empty=0.0)
    f1 = weighted_ratio(2 * hits, truth + called, empty=0.0)
    occurs = truth > 0
    accuracy = weighted_ratio(hits.sum(1), total)
    chance = weighted_ratio((truth * called).sum(1), total**2)
    shares = {"precision": precision, "recall": recall, "f1": f1}
    found = {
        name: np.where(occurs, part, np.nan)[:, positives].mean(1)
        for name, part in shares.items()
    }
    return found | {
        "accuracy": accuracy,
        "balanced_accuracy": weighted_ratio(
            np.where(occurs, recall, 0).sum(1), occurs.sum(1)
        ),
        "weighted_f1": weighted_ratio((truth * f1).sum(1), total),
        "kappa": weighted_ratio(accuracy - chance, 1 - chance),
    }


def _theories(truth: np.ndarray, positives: list[int]) -> dict[str, Theory]:
    """Theories of the metrics that are shares, from tiles per patient and class."""
    total = truth.sum(1)
    of_class = [effective_patients(truth[:, c].astype(float)) for c in positives]
    others = [
        effective_patients((total - truth[:, c]).astype(float)) for c in positives
    ]
    every = [effective_patients(column.astype(float)) for column in truth.T]
    whole = share_theory([effective_patients(total.astype(float))])
    own = share_theory(of_class)
    return {
        "accuracy": whole,
        "weighted_f1": whole,
        "balanced_accuracy": share_theory([n for n in every if n > 0]),
        "precision": own,
        "recall": own,
        "f1": own,
        "pr_auc": own,
        "auroc": auroc_theory(list(zip(of_class, others, strict=True))),
    }
