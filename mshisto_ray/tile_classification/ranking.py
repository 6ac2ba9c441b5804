"""Encoders ranked on the same tiles, with groups that cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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
    found = []
    for repeat in sorted({split.repeat for split in splits}):
        shape = (len(samples), len(samples.classes))
        probabilities = np.full(shape, np.nan)
        for split in splits:
            if split.repeat == repeat:
                fold = Fold(
                    np.sort(split.train),
                    np.sort(split.validation),
                    np.sort(split.test),
                    (split.repeat, split.fold),
                )
                probabilities[fold.test] = probe(samples, fold)
        rows = np.flatnonzero(np.isfinite(probabilities[:, 0]))
        target, group = samples.target[rows], samples.group[rows]
        found.append(tile_metrics(probabilities[rows], target, group))
    return mean_metrics(found)


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
