import numpy as np
import pytest

from mshisto_ray.maps.peaks import find_peaks
from mshisto_ray.maps.probability_map import ProbabilityMap


def by_loops(values, span, distance):
    left = {(r, c): v for (r, c), v in np.ndenumerate(values) if v > 0}
    found = []
    while left:
        (r, c), score = max(
            left.items(), key=lambda item: (item[1], *(-i for i in item[0]))
        )
        found.append(((c + 0.5) * span, (r + 0.5) * span, score))
        left = {
            (i, j): v
            for (i, j), v in left.items()
            if np.hypot(i - r, j - c) * span >= distance
        }
    return found


def test_the_highest_tile_suppresses_those_nearer_than_the_distance():
    values = np.array([[0.9, 0.8, 0.7, 0.2, np.nan, 0.0]])
    peaks = find_peaks(ProbabilityMap(values, 10.0), 20.0)
    # 0.8 is nearer than 20 to 0.9; 0.7 is at 20 and stays; 0.2 is beside it.
    assert peaks.x.tolist() == [5, 25] and peaks.y.tolist() == [5, 5]
    assert peaks.scores.tolist() == [0.9, 0.7]
    assert len(peaks.least(0.8)) == 1 and len(peaks.least(0.7)) == 2


def test_of_equal_tiles_the_first_is_the_peak():
    peaks = find_peaks(ProbabilityMap(np.full((3, 3), 0.5), 4.0), 100.0)
    assert peaks.x.tolist() == [2] and peaks.y.tolist() == [2]


@pytest.mark.parametrize("distance", [5.0, 17.0, 30.0, 31.7])
@pytest.mark.parametrize("seed", range(3))
def test_peaks_are_those_of_loops(distance, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, (11, 8)) / 5  # with ties and zeros
    values[rng.random((11, 8)) < 0.2] = np.nan
    peaks = find_peaks(ProbabilityMap(values, 10.0), distance)
    own = list(zip(peaks.x, peaks.y, peaks.scores, strict=True))
    assert own == by_loops(np.nan_to_num(values), 10.0, distance)


def test_peaks_above_a_score_are_those_of_the_tiles_above_it():
    values = np.random.default_rng(3).random((20, 20))
    whole = find_peaks(ProbabilityMap(values, 1.0), 3.0).least(0.6)
    part = find_peaks(ProbabilityMap(np.where(values >= 0.6, values, 0), 1.0), 3.0)
    np.testing.assert_array_equal(whole.x, part.x)
    np.testing.assert_array_equal(whole.scores, part.scores)


def test_nothing_gives_no_peaks():
    assert len(find_peaks(ProbabilityMap(np.full((2, 2), np.nan), 1.0), 2.0)) == 0
