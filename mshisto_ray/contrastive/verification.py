"""Pairs whose appearance contradicts their label.

Distance in the slide is a noisy label: at a border near tiles differ, and the same
tissue occurs far apart. Appearance is compared by a descriptor of the plain tile.

Source: Gildenblat and Klaiman 2019, section 4, names both as future work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
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
