"""Tiles of one class (or slide) as positives, of other classes as negatives."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.training.draws import choose, uniforms
from mshisto_ray.training.tile_index import UNKNOWN, TileIndex

COMPARES_CLASSES = True


class SameClassPairs:
    """Supervised contrast: a tile twice, augmented differently; a scale for each step.

    Tiles are uniform over those of a class at the step's scale; pairs take each class
    in turn. Slides without a class are left out.

    Source: Khosla et al. 2020; with one scale it is the training of the "conventional"
    encoders in Tan et al. 2023, table 2, of which every scale has its own.
    """

    def __init__(
        self,
        index: TileIndex,
        positive: Literal["class", "slide"],
        mpp: float | None,
    ):
        self._index, self._positive = index, positive
        scales = range(len(index.scales))
        if mpp is not None:
            scales = [index.scale_number(mpp)]
        found = [_layers_by_class(index, scale) for scale in scales]
        # A part of the cohort may lack classes at a scale; it is drawn if none has two.
        most = max(len(layers) for layers in found)
        self._scales = [layers for layers in found if len(layers) == most]

    def draw(self, seed: int, step: int, pairs: np.ndarray) -> np.ndarray:
        """Tiles [P, 2], both the same."""
        uniform = uniforms(seed, "pairs", step, int(pairs.max()) + 1, 1)[pairs, 0]
        pick = uniforms(seed, "scale", step, 1, 1)[0]
        classes = self._scales[choose(pick, np.array([len(self._scales)]))[0]]
        if not classes:
            tile = choose(uniform, np.full(len(pairs), len(self._index)))
            return np.stack([tile, tile], axis=1)
        tile = np.empty(len(pairs), np.int64)
        for number, layers in enumerate(classes):
            at = np.flatnonzero(pairs % len(classes) == number)
            ends = self._index.sizes()[layers].cumsum()
            place = choose(uniform[at], np.full(len(at), ends[-1]))
            slot = np.searchsorted(ends, place, side="right")
            before = np.concatenate([[0], ends[:-1]])[slot]
            tile[at] = self._index.starts[layers[slot]] + place - before
        return np.stack([tile, tile], axis=1)

    def relations(
        self, tiles: np.ndarray, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positive: the same tile, and the same class or slide; else other classes."""
        flat = tiles.reshape(-1)
        slide = self._index.slide(flat)
        label = self._index.label[slide]
        key = label if self._positive == "class" else slide
        known = (label != UNKNOWN)[:, None] & (label != UNKNOWN)
        positive = (flat[:, None] == flat) | (known & (key[:, None] == key))
        negative = known & (label[:, None] != label)
        return positive & ~np.eye(len(flat), dtype=bool), negative

    def check(self, num_pairs: int) -> None:
        """Refuse one class, and batches that do not hold all of them."""
        num = len(self._scales[0])
        if num < 2:
            raise InputError(
                "pairs: same_class needs tiles of two classes or more at a scale: give "
                "cohort and label, or take other pairs"
            )
        if num_pairs < num:
            raise InputError(
                f"batch_size: {2 * num_pairs} images hold {num_pairs} tiles, fewer "
                f"than the {num} classes: raise it to {2 * num} or more"
            )


def _layers_by_class(index: TileIndex, scale: int) -> list[np.ndarray]:
    """Layers with tiles at a scale, an array for each class that has some."""
    layers = index.layers_at(scale)
    held = (index.sizes()[layers] > 0) & (index.label != UNKNOWN)
    return [layers[held & (index.label == c)] for c in np.unique(index.label[held])]


def build(
    index: TileIndex,
    *,
    positive: Literal["class", "slide"] = "class",
    mpp: float | None = None,
) -> SameClassPairs:
    """Pairs of a tile with itself; classes decide on all others.

    Args:
        index: the tiles.
        positive: beside the tile itself, tiles of its class or of its slide.
        mpp: the scale; null: every step draws one of all.
    """
    return SameClassPairs(index, positive, mpp)
