"""The search for the distances from which tiles count as near and as far.

Source: Gildenblat and Klaiman 2019, section 4, names it as future work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.contrastive.monitor import near_far_auc
from mshisto_ray.contrastive.pairs import near_far_pairs
from mshisto_ray.statistics.bootstrap import (
    REPLICATES,
    SEED,
    Interval,
    draw_counts,
    percentile_interval,
)
from mshisto_ray.statistics.rank_metrics import rank_metrics
from mshisto_ray.training.tile_index import TileIndex

# With fewer patients a bootstrap over them says nothing.
_LEAST = 5


@dataclass(frozen=True)
class ThresholdResult:
    """One pair of thresholds.

    ``auc``: chance that a far pair looks less alike than a near one, so 1 - auc is how
    often two labels contradict each other; ``covered``: share of tiles with a near and
    a far partner; ``replicates``: AUC [R] of samples of patients (of slides, where
    patients are fewer than five), the same samples for all thresholds; empty where
    slides are fewer, too.
    """

    near_um: float
    far_um: float
    auc: float
    covered: float
    replicates: np.ndarray

    @property
    def interval(self) -> Interval:
        """The AUC with its 95 % interval."""
        return percentile_interval(self.auc, self.replicates)

    def behind(self, other: ThresholdResult) -> Interval:
        """The AUC less that of other thresholds, with its paired 95 % interval."""
        gap = self.replicates - other.replicates
        return percentile_interval(self.auc - other.auc, gap)


def search_thresholds(
    index: TileIndex,
    describe_tiles: Callable[[np.ndarray], np.ndarray],
    near_um: Sequence[float],
    far_um: Sequence[float],
    num_pairs: int = 2000,
    seed: int = 0,
) -> list[ThresholdResult]:
    """Score each (near, far) by its AUC of appearance and the share of tiles covered.

    Pairs of thresholds with far at or below near are left out.

    Args:
        index: the tiles.
        describe_tiles: tile numbers [N] (sorted, unique) to descriptors [N, D]; NaN
            where a tile has none, whose pairs are left out.
        near_um: candidates.
        far_um: candidates.
        num_pairs: drawn for each.
        seed: of the draw.
    """
    results, drawn = [], []
    for near in near_um:
        for far in far_um:
            if far > near:
                source = near_far_pairs(index, near, far)
                pairs = source.draw(seed, 0, np.arange(num_pairs))
                *_, lacking, total = source.count_missing()
                covered = 1 - lacking / total
                drawn.append(pairs)
                results.append((near, far, covered))
    used = np.unique(np.concatenate([pairs.reshape(-1) for pairs in drawn]))
    values = describe_tiles(used)
    owner = _owners(index)
    counts = draw_counts(
        int(owner.max()) + 1, REPLICATES, np.random.default_rng(SEED)
    ).astype(float)
    found = []
    for (near, far, covered), pairs in zip(results, drawn, strict=True):
        first, second = (values[np.searchsorted(used, column)] for column in pairs.T)
        apart = np.linalg.norm(first - second, axis=1)
        real = (pairs[:, 0] != pairs[:, 1]) & np.isfinite(apart)
        is_far = np.arange(num_pairs) % 2 == 1
        auc = near_far_auc(apart[real & ~is_far], apart[real & is_far])
        replicates = np.zeros(0)
        if counts.shape[1] >= _LEAST and auc == auc:
            weights = counts[:, owner[index.slide(pairs[real, 0])]]
            replicates = rank_metrics(apart[real], is_far[real], weights)["auroc"]
        found.append(ThresholdResult(near, far, auc, covered, replicates))
    return found


def _owners(index: TileIndex) -> np.ndarray:
    """The patient of each slide, from 0; of few patients the slide itself."""
    slides = np.unique(index.slide(np.arange(len(index))))
    owner = np.zeros(len(index.slide_ids), np.int64)
    names = index.patient[slides]
    if len(np.unique(names)) < _LEAST:
        names = slides
    owner[slides] = np.unique(names, return_inverse=True)[1]
    return owner


def best_thresholds(
    results: Sequence[ThresholdResult], least_covered: float = 0.9
) -> ThresholdResult | None:
    """The widest thresholds that cannot be told apart from the best.

    Of near pairs those a step apart look the most alike, and of far ones the most
    distant the least, so the highest AUC is that of the least near and the largest
    far, which leave the fewest pairs to learn from. Of all thresholds that cover enough
    tiles and whose paired 95 % interval of the difference from the highest AUC
    includes 0, those with the largest near and then the smallest far are taken.
    Without intervals (few slides) it is the highest AUC. None: none covers enough.
    """
    enough = [r for r in results if r.covered >= least_covered and r.auc == r.auc]
    if not enough:
        return None
    best = max(enough, key=lambda r: r.auc)
    if not len(best.replicates):
        return best
    tied = [r for r in enough if r is best or not r.behind(best).high < 0]
    return max(tied, key=lambda r: (r.near_um, -r.far_um))
