import numpy as np
import pytest
import shapely

from mshisto_ray.maps.probability_map import ProbabilityMap
from mshisto_ray.maps.regions import find_regions

# A ring with a hole, a tile that touches it at a corner, one alone, one unknown.
VALUES = np.array([
    [0.9, 0.8, 0.9, 0.0, 0.0, 0.0],
    [0.7, 0.1, 0.5, 0.0, 0.0, 0.9],
    [0.9, 0.6, 0.9, 0.0, 0.0, np.nan],
    [0.0, 0.0, 0.0, 0.6, 0.0, 0.0],
])  # fmt: skip
SIZE = (6 * 20, 4 * 20)


def found(threshold=0.5, size=SIZE, **keys):
    return find_regions(ProbabilityMap(VALUES, 20.0), threshold, size, **keys)


def test_regions_are_tiles_joined_along_edges_with_their_holes():
    ring, *others = found()
    outer = shapely.box(0, 0, 60, 60) - shapely.box(20, 20, 40, 40)
    assert ring.polygon.equals(outer)
    assert ring.mean == pytest.approx((0.9 * 4 + 0.8 + 0.7 + 0.5 + 0.6) / 8)
    assert ring.highest == 0.9
    boxes = {region.polygon.bounds: region.mean for region in others}
    assert boxes == {(60, 60, 80, 80): 0.6, (100, 20, 120, 40): 0.9}


def test_the_threshold_itself_counts_and_what_is_below_does_not():
    assert sum(region.polygon.area for region in found(0.6)) == 9 * 400
    assert found(0.95) == []


def test_small_regions_are_left_out():
    (ring,) = found(min_area=401)
    assert ring.polygon.area == 8 * 400
    assert len(found(min_area=400)) == 3


def test_regions_end_at_the_edge_of_the_slide():
    regions = found(size=(105, 80))
    cut = [r for r in regions if r.polygon.bounds == (100, 20, 105, 40)]
    assert len(cut) == 1 and cut[0].mean == 0.9
