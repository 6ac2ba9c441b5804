"""What a probe loses on sites that it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mshisto_ray.evaluation.robustness import (
    clustering_score,
    index_of,
    paired_robustness_index,
    robustness_index,
)
from mshisto_ray.learning.tile_metrics import TileMetrics, tile_metrics
from mshisto_ray.statistics.bootstrap import ClusterDraws, Interval, percentile_interval
from mshisto_ray.statistics.rank_metrics import weighted_ratio
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.probes import Fold, Probe

_NEIGHBOURS = 50


@dataclass(frozen=True)
class Robustness:
    """Of one encoder.

    ``index``: SO / (SO + OS) with its interval over patients; ``paired``: the same of
    ``paired_robustness_index``, NaN where no pair is complete; ``clustering``: see
    ``clustering_score``; ``left_out``: metrics of a probe on sites that it did not
    learn from, None where no site can be left out.
    """

    index: Interval
    paired: Interval
    clustering: float
    left_out: TileMetrics | None


def measure_robustness(samples: TileSamples, probe: Probe, share: float) -> Robustness:
    """How far the embeddings of tiles with sites follow classes, and how far sites.

    Args:
        samples: with ``site``.
        probe: that learns from all sites but one, for each in turn.
        share: of its training groups that are validation.
    """
    assert samples.site is not None
    values, site = samples.read(np.arange(len(samples))), samples.site
    given = samples.target, site, samples.group
    draws = ClusterDraws(samples.group)
    index, paired = (
        _index(*counts(values, *given, _NEIGHBOURS), draws)
        for counts in (robustness_index, paired_robustness_index)
    )
    probabilities = sites_left_out(probe, samples, share)
    rows = np.flatnonzero(np.isfinite(probabilities[:, 0]))
    left_out = None
    if len(rows):
        left_out = tile_metrics(
            probabilities[rows], samples.target[rows], samples.group[rows]
        )
    clustering = clustering_score(values, samples.target, site)
    return Robustness(index, paired, clustering, left_out)


def _index(
    same_other: np.ndarray, other_same: np.ndarray, draws: ClusterDraws
) -> Interval:
    columns = np.stack([same_other, same_other + other_same], 1).astype(float)
    top, bottom = draws.means(columns).T
    value = index_of(same_other, other_same)
    if np.isnan(value):
        return Interval(value, value, value)
    return percentile_interval(value, weighted_ratio(top, bottom))


def sites_left_out(probe: Probe, samples: TileSamples, share: float) -> np.ndarray:
    """Probabilities [N, C] of tiles by a probe that saw no tile of their site.

    Nor one of their patient. NaN for sites without which a class has no training tile.
    """
    assert samples.site is not None
    found = np.full((len(samples), len(samples.classes)), np.nan)
    for number, name in enumerate(np.unique(samples.site)):
        test = np.flatnonzero(samples.site == name)
        known = ~np.isin(samples.group, np.unique(samples.group[test]))
        groups = np.unique(samples.group[known])
        chosen = np.random.default_rng(number).permutation(groups)
        chosen = chosen[: round(share * len(groups))]
        held = known & np.isin(samples.group, chosen)
        train = np.flatnonzero(known & ~held)
        if len(np.unique(samples.target[train])) < len(samples.classes):
            continue
        fold = Fold(train, np.flatnonzero(held), test, (0, number))
        found[test] = probe(samples, fold)
    return found
