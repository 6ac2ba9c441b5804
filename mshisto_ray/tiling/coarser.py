"""What a coarser level shows where a level of a slide lacks pixels."""

from __future__ import annotations

import math

import cv2
import numpy as np

from mshisto_ray.slides import Slide, SlideError, read_held

# Stain absorbs green most: below this part of the brighter of red and blue (an optical
# density of 0.03) a pixel is no glass, nor is a dark one.
_MOST_GREEN, _DARK = 0.933, 120


def stained_share(slide: Slide, level: int, x: int, y: int, held: np.ndarray) -> float:
    """Share of a region that is missing and, on a coarser level, stained.

    Some formats (DICOM, MIRAX) do not say which native tiles they lack before these
    are read. On glass a missing one is harmless; where a coarser level has tissue, the
    level has lost it.

    Args:
        slide: open slide.
        level: that the region was read at.
        x: its left edge, level-0 pixels.
        y: its top edge, level-0 pixels.
        held: bool [height, width] in pixels of the level, False where it has none.

    Returns:
        Share in [0, 1]; 0 if no coarser level has the missing pixels either.
    """
    own = slide.levels[level].downsample
    coarser = [
        (other.downsample, number)
        for number, other in enumerate(slide.levels)
        if other.is_sound and other.downsample > own
    ]
    for down, number in sorted(coarser):
        share = _share(slide, number, (x / down, y / down), down / own, held)
        if share is not None:
            return share
    return 0.0


def _share(
    slide: Slide,
    level: int,
    corner: tuple[float, float],
    factor: float,
    held: np.ndarray,
) -> float | None:
    """``stained_share`` by one level; None if it lacks these pixels too.

    Args:
        slide: open slide.
        level: the coarser level.
        corner: of the region, in its pixels.
        factor: pixels of the region per pixel of the level.
        held: of the region.
    """
    height, width = held.shape
    left, top = (math.floor(at) for at in corner)
    cols = math.ceil(corner[0] + width / factor) - left
    rows = math.ceil(corner[1] + height / factor) - top
    down = slide.levels[level].downsample
    place = (round(left * down), round(top * down))
    try:
        pixels, there = read_held(slide, level, *place, cols, rows)
    except SlideError:
        return None
    lost = _all_missing(held, corner, factor, (rows, cols))
    if there is not None:
        lost &= there
    if not lost.any():
        return None
    smooth = cv2.blur(pixels, (3, 3)).astype(float)
    red, green, blue = (smooth[..., i] for i in range(3))
    brighter = np.maximum(red, blue)
    stained = (green < _MOST_GREEN * brighter) | (np.maximum(brighter, green) < _DARK)
    return float((lost & stained).sum()) * factor**2 / held.size


def _all_missing(
    held: np.ndarray,
    corner: tuple[float, float],
    factor: float,
    shape: tuple[int, int],
) -> np.ndarray:
    """Pixels of the coarser level that lie among missing ones alone, bool [rows, cols].

    At the edge of what is missing a coarser pixel mixes both.
    """
    rows, cols = (
        np.floor(at % 1 + (np.arange(side) + 0.5) / factor).astype(int)
        for at, side in zip(reversed(corner), held.shape, strict=True)
    )
    (row, first_row), (col, first_col) = (
        np.unique(places, return_index=True) for places in (rows, cols)
    )
    lines = np.add.reduceat(held.astype(np.int64), first_row, axis=0)
    lacking = np.zeros(shape, np.uint8)
    lacking[np.ix_(row, col)] = np.add.reduceat(lines, first_col, axis=1) == 0
    return cv2.erode(lacking, np.ones((3, 3), np.uint8)).astype(bool)
