"""Linked scales from one decode: pixels identical to reading tile by tile."""

import numpy as np
import pytest

from mshisto_ray.slides import (
    Level,
    SlideError,
)
from mshisto_ray.tiling.cell import CellReader
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.resolution import resolve

TILE = 16
SCALES = (0.5, 1.0, 2.0)


class DrawnSlide:
    """Random pixels at level 0; records reads; unreadable at the places ``bad``."""

    def __init__(self, downsamples=(1, 2, 4), bad=()):
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (160, 150, 3), dtype=np.uint8)
        self.levels = tuple(Level(150 // d, 160 // d, float(d)) for d in downsamples)
        self.bad = bad
        self.reads = []

    def read(self, level, x, y, width, height):
        self.reads.append((level, x, y, width, height))
        for bad_x, bad_y in self.bad:
            if x <= bad_x < x + width and y <= bad_y < y + height:
                raise SlideError("UnreadableRegion", "damaged")
        out = np.full((height, width, 3), 255, np.uint8)
        down = int(self.levels[level].downsample)
        part = self.pixels[y::down, x::down][:height, :width]
        out[: part.shape[0], : part.shape[1]] = part
        return out


def readings(mpp, slide, scales=SCALES):
    found = resolve(mpp, slide.levels, scales, TILE, 0.02, from_finest=True)
    return {reading.mpp: reading for reading in found}


def tiles(scales, rows=2, cols=2):
    """Every tile of some cells, cell by cell, finest first."""
    coarsest = max(scales.values(), key=lambda r: r.extent)
    for row in range(rows):
        for col in range(cols):
            for reading in scales.values():
                k = round(coarsest.extent / reading.extent)
                for r in range(row * k, row * k + k):
                    for c in range(col * k, col * k + k):
                        x, y = round(c * reading.extent), round(r * reading.extent)
                        yield reading, x, y


@pytest.mark.parametrize("mpp", [0.5, 0.25, 0.499, 0.263])
def test_pixels_are_those_of_tile_by_tile(mpp):
    slide = DrawnSlide((1, 4))
    scales = readings(mpp, slide)
    read = CellReader(slide, scales, TILE)
    for reading, x, y in tiles(scales):
        expected = read_tile(DrawnSlide(), reading, x, y, TILE)
        np.testing.assert_array_equal(read(reading, x, y), expected)
    if mpp != 0.263:  # resampled: scale by scale
        assert len(slide.reads) == 4 * 16


def test_a_damaged_tile_costs_only_itself_and_its_ancestors():
    slide = DrawnSlide(bad=[(20, 3)])
    scales = readings(0.5, slide)
    read = CellReader(slide, scales, TILE)
    lost = []
    for reading, x, y in tiles(scales):
        try:
            expected = read_tile(DrawnSlide(), reading, x, y, TILE)
            np.testing.assert_array_equal(read(reading, x, y), expected)
        except SlideError:
            lost.append((reading.mpp, x, y))
    assert lost == [(0.5, 16, 0), (1.0, 0, 0), (2.0, 0, 0)]


def test_coarser_scales_of_one_level_share_its_decode():
    slide = DrawnSlide((1, 2))
    scales = {r.mpp: r for r in resolve(0.5, slide.levels, SCALES, TILE, 0.02)}
    assert [(r.level, r.factor) for r in scales.values()] == [(0, 1), (1, 1), (1, 2)]
    read = CellReader(slide, scales, TILE)
    for reading, x, y in tiles(scales):
        expected = read_tile(DrawnSlide((1, 2)), reading, x, y, TILE)
        np.testing.assert_array_equal(read(reading, x, y), expected)
    assert len(slide.reads) == 4 * (16 + 4)


def test_coarse_scales_alone_never_touch_level_0():
    slide = DrawnSlide()
    scales = readings(0.25, slide, (1.0, 2.0))
    read = CellReader(slide, scales, TILE)
    for reading, x, y in tiles(scales, 1, 1):
        read(reading, x, y)
    assert {level for level, *_ in slide.reads} == {2}


def test_sums_that_exceed_16_bits_are_read_tile_by_tile():
    slide = DrawnSlide()
    scales = readings(0.5, slide, (0.5, 16.0))
    read = CellReader(slide, scales, TILE)
    for reading in scales.values():
        expected = read_tile(slide, reading, 0, 0, TILE)
        np.testing.assert_array_equal(read(reading, 0, 0), expected)
    assert len(slide.reads) == 4
