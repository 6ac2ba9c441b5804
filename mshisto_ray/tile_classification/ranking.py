"""Encoders ranked on the same tiles, with groups that cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mshisto_ray.learning.fold_means import of_folds, pooled_apart, within_folds
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.tile_metrics import (
    TileMetrics,
    mean_metrics,
    tile_metrics,
)
from mshisto_ray.statistics.bootstrap import Interval, percentile_interval
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.probes import Fold, Probe


@dataclass(frozen=True)
class Ranked:
    """One encoder's place.

    ``difference``: from the best of all, paired on the same draws of patients; None of
    that one; ``group``: 1 for those that the best cannot be told apart from, 2 for
    those that the best of the rest cannot.
    """

    name: str
    score: Interval
    difference: Interval | None
    group: int


def score_probe(
    probe: Probe, samples: TileSamples, splits: Sequence[Split]
) -> TileMetrics:
    """Out-of-fold metrics of a probe, means over repeats."""
    found, parts = [], []
    for repeat in sorted({split.repeat for split in splits}):
        shape = (len(samples), len(samples.classes))
        probabilities = np.full(shape, np.nan)
        model = np.zeros(len(samples), int)
        for number, split in enumerate(splits):
            if split.repeat == repeat:
                fold = Fold(
                    np.sort(split.train),
                    np.sort(split.validation),
                    np.sort(split.test),
                    (split.repeat, split.fold),
                )
                probabilities[fold.test] = probe(samples, fold)
                model[fold.test] = number
        rows = np.flatnonzero(np.isfinite(probabilities[:, 0]))
        target, group = samples.target[rows], samples.group[rows]
        found.append(tile_metrics(probabilities[rows], target, group))
        parts.append((probabilities[rows], target, model[rows]))
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    inside = within_folds(*columns)
    return replace(mean_metrics(found), of_folds=inside)


def pooling_note(
    probe: str, scores: Mapping[str, TileMetrics], titles: Mapping[str, str]
) -> str | None:
    """A line on the encoders whose pooled values lie far from those within folds.

    Args:
        probe: its name.
        scores: of each encoder.
        titles: of metrics.
    """
    named = []
    for name, found in scores.items():
        known = {f"test_{m}_mean": value for m, value in found.values.items()}
        known |= of_folds(found.of_folds)
        for metric in found.of_folds:
            ends = found.interval(metric)
            known[f"test_{metric}_ci_low"] = ends.low
            known[f"test_{metric}_ci_high"] = ends.high
        named += [
            f"{name}, {titles[metric]}: {pooled:.3f} of all folds pooled, {inside:.3f} "
            "within folds"
            for metric, pooled, inside in pooled_apart(known)
        ]
    if not named:
        return None
    return (
        f"warning: by {probe} values that rank the tiles of all folds as one lie "
        "further from the mean over folds than half their interval is wide: "
        f"{'; '.join(named)}. There the levels of the fold models count: compare "
        "encoders by the mean over folds, or by larger folds (split.folds)"
    )


def rank(scores: Mapping[str, TileMetrics], metric: str) -> list[Ranked]:
    """Encoders by a metric, the best first, in groups of ties.

    A group holds its best and all that are left whose paired 95 % interval of the
    difference from it includes 0.
    """
    left = sorted(scores, key=lambda name: -scores[name].values[metric])
    first = left[:1]
    ranked: list[Ranked] = []
    group = 0
    while left:
        best, group = left[0], group + 1
        tied = []
        for name in left:
            difference = _difference(scores[name], scores[best], metric)
            # Without an interval (one patient) nothing can be told apart.
            if name == best or not difference.high < 0:
                interval, behind = scores[name].interval(metric), None
                if name not in first:
                    behind = _difference(scores[name], scores[first[0]], metric)
                ranked.append(Ranked(name, interval, behind, group))
                tied.append(name)
        left = [name for name in left if name not in tied]
    return ranked


def _difference(one: TileMetrics, other: TileMetrics, metric: str) -> Interval:
    value = one.values[metric] - other.values[metric]
    ends = one.interval(metric), other.interval(metric)
    if not len(one.replicates[metric]) or not all(np.isfinite(e.low) for e in ends):
        return Interval(value, np.nan, np.nan)
    return percentile_interval(value, one.replicates[metric] - other.replicates[metric])
