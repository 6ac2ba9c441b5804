import math

import numpy as np
import pytest

from mshisto_ray.maps.probability_map import make_map


def by_loops(values, sigma):
    """Gaussian mean over known tiles within four standard deviations."""
    reach = int(4 * sigma + 0.5)
    found = np.full(values.shape, np.nan)
    for r, c in np.argwhere(np.isfinite(values)):
        top = weight = 0.0
        for i, j in np.argwhere(np.isfinite(values)):
            if abs(i - r) <= reach and abs(j - c) <= reach:
                w = math.exp(-((i - r) ** 2 + (j - c) ** 2) / (2 * sigma**2))
                top, weight = top + w * values[i, j], weight + w
        found[r, c] = top / weight
    return found


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    place = np.argwhere(rng.random((9, 7)) < 0.7)
    return place, rng.random(len(place))


def test_tiles_lie_where_their_grid_says():
    found = make_map(np.array([2, 0]), np.array([1, 3]), np.array([0.25, 0.75]), 10.5)
    wanted = np.full((3, 4), np.nan)
    wanted[2, 1], wanted[0, 3] = 0.25, 0.75
    np.testing.assert_array_equal(found.values, wanted)
    assert found.known.sum() == 2 and found.span == 10.5
    assert found.at(np.array([0]), np.array([3])) == [0.75]


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_smoothing_is_the_gaussian_mean_of_known_tiles(sigma):
    place, values = drawn()
    found = make_map(*place.T, values, 1.0)
    np.testing.assert_allclose(
        found.smoothed(sigma).values, by_loops(found.values, sigma), rtol=1e-12
    )


def test_a_constant_map_stays_constant_to_its_edges():
    place, _ = drawn()
    found = make_map(*place.T, np.full(len(place), 0.3), 1.0)
    smooth = found.smoothed(1.5)
    np.testing.assert_allclose(smooth.values[smooth.known], 0.3, rtol=1e-12)
    np.testing.assert_array_equal(smooth.known, found.known)
    assert found.smoothed(0) is found
