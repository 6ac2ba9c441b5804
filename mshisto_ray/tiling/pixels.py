"""Pixels of one tile: native, plain box average, or exact area average."""

from __future__ import annotations

import math

import numpy as np

from mshisto_ray.slides._slide import Slide
from mshisto_ray.tiling.resolution import ScaleReading


def read_tile(
    slide: Slide, reading: ScaleReading, x: int, y: int, tile_px: int
) -> np.ndarray:
    """A tile's pixels.

    Args:
        slide: open slide.
        reading: how its scale is read.
        x: left edge, level-0 pixels.
        y: top edge, level-0 pixels.
        tile_px: side of the tile.

    Returns:
        uint8 [tile_px, tile_px, 3]; white outside the slide.

    Raises:
        SlideError: the region cannot be decoded.
    """
    if reading.factor is not None:
        side = tile_px * reading.factor
        return box_average(slide.read(reading.level, x, y, side, side), reading.factor)
    down = slide.levels[reading.level].downsample
    left, right = x / down, (x + reading.extent) / down
    top, bottom = y / down, (y + reading.extent) / down
    first_col, first_row = math.floor(left), math.floor(top)
    width = math.ceil(right) - first_col
    height = math.ceil(bottom) - first_row
    pixels = slide.read(
        reading.level, round(first_col * down), round(first_row * down), width, height
    )
    return area_average(
        pixels,
        (top - first_row, bottom - first_row),
        (left - first_col, right - first_col),
        tile_px,
    )


def box_average(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Mean over factor x factor boxes, rounded half up; uint8 [H, W, 3] in and out."""
    if factor == 1:
        return pixels
    height, width, channels = pixels.shape
    boxes = pixels.reshape(height // factor, factor, width // factor, factor, channels)
    # Sums of whole numbers: rows first, so that the long axis stays contiguous.
    total = boxes.sum(axis=1, dtype=np.uint32).sum(axis=2, dtype=np.uint32)
    area = factor * factor
    return ((total + area // 2) // area).astype(np.uint8)


def area_average(
    pixels: np.ndarray, rows: tuple[float, float], cols: tuple[float, float], side: int
) -> np.ndarray:
    """Exact area average of a real-valued rectangle, on a side x side grid.

    Each output pixel is the mean of the input over its share of the rectangle, border
    pixels weighted by the part covered; finer output than input is allowed.

    Args:
        pixels: uint8 [H, W, 3].
        rows: top and bottom of the rectangle in input pixels.
        cols: left and right.
        side: output pixels per side.
    """
    index, weight = _coverage(*rows, side, pixels.shape[0])
    partial = np.zeros((side, *pixels.shape[1:]), np.float32)
    for tap in range(index.shape[1]):
        partial += pixels[index[:, tap]] * weight[:, tap, None, None]
    index, weight = _coverage(*cols, side, pixels.shape[1])
    result = np.zeros((side, side, pixels.shape[2]), np.float32)
    for tap in range(index.shape[1]):
        result += partial[:, index[:, tap]] * weight[None, :, tap, None]
    return np.rint(result).astype(np.uint8)


def _coverage(
    start: float, stop: float, num: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Input pixels under each of ``num`` equal cells and their shares, [num, T]."""
    edges = start + (stop - start) * np.arange(num + 1) / num
    low, high = edges[:-1, None], edges[1:, None]
    taps = math.ceil((stop - start) / num) + 1
    index = np.floor(low).astype(np.int64) + np.arange(taps)
    covered = np.clip(np.minimum(high, index + 1) - np.maximum(low, index), 0, None)
    weight = covered / covered.sum(axis=1, keepdims=True)
    return np.clip(index, 0, size - 1), weight.astype(np.float32)
