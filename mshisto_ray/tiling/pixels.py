"""Pixels of one tile: native, plain box average, or exact area average."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mshisto_ray.slides import Slide, SlideError, read_held
from mshisto_ray.tiling.area_average import area_average
from mshisto_ray.tiling.coarser import stained_share
from mshisto_ray.tiling.resolution import ScaleReading

# Missing tissue of a tile below this share is noise of the coarser level.
_LEAST_SHARE = 0.01


def read_tile(
    slide: Slide, reading: ScaleReading, x: int, y: int, tile_px: int
) -> np.ndarray:
    """RGB pixels of a tile.

    Args:
        slide: open slide.
        reading: how its scale is read.
        x: left edge, level-0 pixels.
        y: top edge, level-0 pixels.
        tile_px: side of the tile.

    Returns:
        uint8 [tile_px, tile_px, 3]; white outside the slide.

    Raises:
        SlideError: the region cannot be decoded, or the file holds no pixel of it.
    """
    if reading.factor is not None:
        side = tile_px * reading.factor
        pixels = _read(slide, reading.level, x, y, side, side)
        return box_average(pixels, reading.factor)
    down = slide.levels[reading.level].downsample
    left, right = x / down, (x + reading.extent) / down
    top, bottom = y / down, (y + reading.extent) / down
    first_col, first_row = math.floor(left), math.floor(top)
    width = math.ceil(right) - first_col
    height = math.ceil(bottom) - first_row
    corner = (round(first_col * down), round(first_row * down))
    pixels = _read(slide, reading.level, *corner, width, height)
    return area_average(
        pixels,
        (top - first_row, bottom - first_row),
        (left - first_col, right - first_col),
        tile_px,
    )


def _read(
    slide: Slide, level: int, x: int, y: int, width: int, height: int
) -> np.ndarray:
    """Pixels of a region, of which the file has to hold whatever is tissue.

    Where the file lists its native tiles, what it lacks is known when a tile is
    planned; else, and for tiles planned before that was looked at, it shows here.
    """
    pixels, held = read_held(slide, level, x, y, width, height)
    if held is None:
        return pixels
    lacks = "no pixels here"
    if held.any():
        share = stained_share(slide, level, x, y, held)
        if share < _LEAST_SHARE:
            return pixels
        lacks = (
            f"no pixels for at least {share:.0%} of this tile, which are tissue on a "
            "coarser level"
        )
    raise SlideError(
        "MissingPixels",
        f"the file holds {lacks}: export or copy the slide again and run with "
        "runtime.retry_failures=true",
    )


def box_average(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Mean over factor x factor boxes, rounded half up; uint8 [H, W, 3] in and out."""
    if factor == 1:
        return pixels
    height, width, channels = pixels.shape
    if factor == 2:  # the only factor that OpenCV averages in integers
        size = (width // 2, height // 2)
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if factor == 4:
        return box_averages(pixels, (4,))[4]
    area = factor * factor
    kind = np.uint16 if area * 256 <= 2**16 else np.uint32
    # Whole lines first, one at a time: contiguous, and a factor fewer columns to add.
    lines = pixels.reshape(height // factor, factor, width * channels)
    total = lines[:, 0].astype(kind)
    for i in range(1, factor):
        total += lines[:, i]
    columns = total.reshape(height // factor, width // factor, factor, channels)
    total = columns[:, :, 0] + kind(area // 2)
    for i in range(1, factor):
        total += columns[:, :, i]
    return (total // kind(area)).astype(np.uint8)


def box_averages(pixels: np.ndarray, factors: Sequence[int]) -> dict[int, np.ndarray]:
    """``box_average`` for several powers of two up to 16, in one pass.

    Pixels are multiplied by 4^m for a largest factor of 2^m, so that each of the m
    halvings, by OpenCV's average of 2 x 2, gives integers: only the results are
    rounded.
    """
    shift = 2 * (max(factors).bit_length() - 1)
    averages = {1: pixels} if 1 in factors else {}
    scaled = pixels.astype(np.uint16)
    scaled <<= shift
    factor, half = 1, (1 << shift) >> 1
    while factor < max(factors):
        factor *= 2
        size = (scaled.shape[1] // 2, scaled.shape[0] // 2)
        scaled = cv2.resize(scaled, size, interpolation=cv2.INTER_AREA)
        if factor in factors:
            rounded = scaled + np.uint16(half)
            rounded >>= shift
            averages[factor] = rounded.astype(np.uint8)
    return averages
