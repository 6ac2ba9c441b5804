"""Pairs whose appearance contradicts their label, and the search for thresholds.

Distance in the slide is a noisy label: at a border near tiles differ, and the same
tissue occurs far apart. Appearance is compared by a descriptor of the plain tile.

Source: Gildenblat and Klaiman 2019, section 4, names both as future work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.contrastive.monitor import near_far_auc
from mshisto_ray.contrastive.pairs import near_far_pairs
from mshisto_ray.training.reading import IndexedTileReader
from mshisto_ray.training.tile_index import TileIndex


@dataclass(frozen=True)
class Verification:
    """Limits on the appearance distance of pairs.

    ``most_alike``: a positive pair farther apart is dropped; ``least_apart``: a
    negative pair closer is dropped.
    """

    most_alike: float
    least_apart: float


def describe(tiles: np.ndarray) -> np.ndarray:
    """Mean and standard deviation per channel on 0 to 1; [N, H, W, 3] to [N, 6]."""
    pixels = tiles.reshape(len(tiles), -1, 3).astype(np.float32) / 255
    return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1)


def fit_verification(
    near: np.ndarray, far: np.ndarray, quantile: float
) -> Verification:
    """Limits from the appearance distances of sampled near and far pairs.

    A near pair contradicts its label if it differs more than the share ``quantile`` of
    far pairs does, a far pair if it is more alike than that share of near ones are: the
    larger ``quantile``, the fewer pairs are dropped.
    """
    return Verification(
        float(np.quantile(far, quantile)), float(np.quantile(near, 1 - quantile))
    )


def sample_verification(
    quantile: float | None,
    pairs: Part,
    index: TileIndex,
    reader: IndexedTileReader,
    num_pairs: int = 400,
) -> Verification | None:
    """Limits of appearance from pairs of the training slides; None: keep all pairs."""
    if quantile is None:
        return None
    source = components.build("mshisto_ray.contrastive.pairs", pairs, index)
    numbers = np.arange(num_pairs)
    drawn = source.draw(0, 0, numbers)
    near, far = source.relations(drawn, numbers)
    used = np.unique(drawn)
    held = reader(used)
    at = held.places(drawn)
    values = describe(held.pixels)[at]
    apart = np.linalg.norm(values[:, 0] - values[:, 1], axis=1)
    seen = held.readable[at].all(axis=1)
    kinds = [apart[r[2 * numbers, 2 * numbers + 1] & seen] for r in (near, far)]
    if not all(map(len, kinds)):
        raise InputError("verify: it needs near and far pairs; set far_share to 0.5")
    return fit_verification(kinds[0], kinds[1], quantile)


def drop_contradictions(
    tiles: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    limits: Verification,
) -> tuple[np.ndarray, np.ndarray]:
    """Relations [M, M] of tiles uint8 [M, H, W, 3] without contradicted pairs."""
    values = describe(tiles)
    apart = np.linalg.norm(values[:, None] - values, axis=2)
    return positive & (apart <= limits.most_alike), negative & (
        apart >= limits.least_apart
    )


@dataclass(frozen=True)
class ThresholdResult:
    """One pair of thresholds.

    ``auc``: chance that a far pair looks less alike than a near one, so 1 - auc is how
    often two labels contradict each other; ``covered``: share of tiles with a near and
    a far partner.
    """

    near_um: float
    far_um: float
    auc: float
    covered: float


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
    found = []
    for (near, far, covered), pairs in zip(results, drawn, strict=True):
        first, second = (values[np.searchsorted(used, column)] for column in pairs.T)
        apart = np.linalg.norm(first - second, axis=1)
        real = (pairs[:, 0] != pairs[:, 1]) & np.isfinite(apart)
        is_far = np.arange(num_pairs) % 2 == 1
        auc = near_far_auc(apart[real & ~is_far], apart[real & is_far])
        found.append(ThresholdResult(near, far, auc, covered))
    return found


def best_thresholds(
    results: Sequence[ThresholdResult], least_covered: float = 0.9
) -> ThresholdResult | None:
    """The thresholds of highest AUC that cover enough tiles; None if none does."""
    enough = [r for r in results if r.covered >= least_covered and r.auc == r.auc]
    return max(enough, key=lambda r: r.auc, default=None)
