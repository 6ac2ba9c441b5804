import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fixtures.averages import area_by_loop
from scipy import sparse

from mshisto_ray.tiling.area_average import area_average


@pytest.mark.parametrize(
    ("rows", "cols"),
    [
        ((0.0, 30.0), (0.0, 30.0)),
        ((0.3, 29.6), (0.7, 30.0)),
        ((0.0, 30.4), (0.25, 30.65)),  # 1.9 times down
        ((0.1, 15.3), (0.9, 16.1)),  # slightly up
    ],
)
def test_area_average_equals_a_float64_loop(rows, cols):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    result = area_average(pixels, rows, cols, 16)
    reference = area_by_loop(pixels, rows, cols, 16)
    assert np.abs(result - reference).max() <= 0.5 + 1e-3


def by_sparse_matrices(pixels, rows, cols, side):
    """Area average as two sparse products, float64."""

    def weights(start, stop, size):
        edges = start + (stop - start) * np.arange(side + 1) / side
        pixel = np.arange(size)
        high = np.minimum(edges[1:, None], pixel + 1)
        share = np.clip(high - np.maximum(edges[:-1, None], pixel), 0, None)
        return sparse.csr_array(share / share.sum(1, keepdims=True))

    height, width, channels = pixels.shape
    lines = weights(*rows, height) @ pixels.reshape(height, -1).astype(float)
    lines = lines.reshape(side, width, channels).transpose(1, 0, 2)
    across = weights(*cols, width) @ lines.reshape(width, -1)
    return across.reshape(side, side, channels).transpose(1, 0, 2)


@pytest.mark.parametrize("start", [0.0, 0.25])
@pytest.mark.parametrize("extent", [243.3, 486.64, 973.28, 1946.56])
def test_tiles_of_real_sizes(extent, start):
    size = math.ceil(extent + start)
    pixels = np.random.default_rng(0).integers(
        0, 256, (size, size + 1, 3), dtype=np.uint8
    )
    span = (start, start + extent)
    found = area_average(pixels, span, span, 256)
    exact = by_sparse_matrices(pixels, span, span, 256)
    # OpenCV's two weights of a finer grid have 11 bits.
    most = 1 if extent < 256 and not start else 0.5 + 1e-3
    assert np.abs(found - exact).max() <= most


def test_threads_do_not_share_their_memory():
    rng = np.random.default_rng(0)
    tiles = list(rng.integers(0, 256, (8, 60, 60, 3), dtype=np.uint8))
    span = (0.2, 59.6)

    def average(pixels):
        return area_average(pixels, span, span, 32)

    alone = [average(tile) for tile in tiles]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            for one, other in zip(alone, pool.map(average, tiles), strict=True):
                np.testing.assert_array_equal(one, other)
