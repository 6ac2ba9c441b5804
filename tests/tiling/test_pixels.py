import numpy as np
import pytest
from fixtures.averages import area_by_loop

from mshisto_ray.slides import (
    Level,
)
from mshisto_ray.tiling.pixels import box_average, box_averages, read_tile
from mshisto_ray.tiling.resolution import ScaleReading


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8, 17])
def test_box_average_equals_the_mean_rounded_half_up(factor):
    pixels = np.random.default_rng(0).integers(
        0, 256, (4 * factor, 4 * factor, 3), dtype=np.uint8
    )
    pixels[:factor] = 255  # the largest sums
    result = box_average(pixels, factor)
    for i in range(4):
        for j in range(4):
            box = pixels[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            mean = box.astype(float).mean(axis=(0, 1))
            np.testing.assert_array_equal(result[i, j], np.floor(mean + 0.5))


@pytest.mark.parametrize("factors", [(1, 2, 4), (2, 4, 8), (4, 16), (2,), (1,)])
def test_several_box_averages_in_one_pass_are_the_single_ones(factors):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    pixels[:16] = 255
    found = box_averages(pixels, factors)
    assert tuple(found) == factors
    for factor, average in found.items():
        shape = (64 // factor, factor, 96 // factor, factor, 3)
        mean = pixels.reshape(shape).mean(axis=(1, 3))
        np.testing.assert_array_equal(average, np.floor(mean + 0.5))


class ArraySlide:
    """An array as a slide, for exact expectations."""

    def __init__(self, pixels):
        self.pixels = pixels
        self.levels = (Level(pixels.shape[1], pixels.shape[0], 1.0),)

    def read(self, level, x, y, width, height):
        out = np.full((height, width, 3), 255, np.uint8)
        part = self.pixels[max(y, 0) : y + height, max(x, 0) : x + width]
        out[: part.shape[0], : part.shape[1]] = part
        return out


def test_a_tile_over_the_edge_is_padded_white():
    slide = ArraySlide(np.zeros((40, 40, 3), np.uint8))
    tile = read_tile(slide, ScaleReading(1.0, 1.0, 32.0, 0, 1), 32, 32, 32)
    assert (tile[:8, :8] == 0).all()
    assert (tile[8:] == 255).all()
    assert (tile[:, 8:] == 255).all()


def test_a_resampled_tile_is_the_area_average_of_its_extent():
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    extent = 16 * 1.9010
    reading = ScaleReading(1.0, 1.0, extent, 0, None)
    x, y = round(extent), round(2 * extent) - 20
    tile = read_tile(ArraySlide(pixels), reading, x, y, 16)
    reference = area_by_loop(pixels, (y, y + extent), (x, x + extent), 16)
    assert np.abs(tile - reference).max() <= 0.5 + 1e-3
