import numpy as np
import pytest
import shapely

from mshisto_ray.tiling.annotation import AnnotationError, Region
from mshisto_ray.tiling.tissue_masks import annotation


def star(seed, centre, radius, num=9):
    """A polygon with a hole, corners anywhere."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, num))
    around = np.stack([np.cos(angles), np.sin(angles)], 1)
    reach = rng.uniform(0.5, 1, (num, 1)) * radius
    outer = centre + reach * around
    return shapely.make_valid(shapely.Polygon(outer, [centre + 0.3 * reach * around]))


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_mask_is_the_pixels_whose_centre_lies_inside(seed):
    polygons = [star(seed, (60.3, 40.2), 50), star(seed + 9, (5, 70.5), 30)]
    regions = [Region("a", polygons[0]), Region("b", polygons[1])]
    pixels = np.zeros((80, 100, 3), np.uint8)
    found = annotation.build()(pixels, 8.0, regions)
    for row in range(80):
        for col in range(100):
            centre = shapely.Point(col + 0.5, row + 0.5)
            assert found[row, col] == any(p.contains(centre) for p in polygons)
    only = annotation.build(groups=("b",))(pixels, 8.0, regions)
    assert only.any() and (found & ~only).any() and not (only & ~found).any()


def test_groups_that_nobody_drew_are_told_with_those_there_are():
    regions = [Region("tumor", shapely.box(0, 0, 9, 9))]
    pixels = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(AnnotationError, match=r"\(tumour\); have tumor"):
        annotation.build(groups=("tumour",))(pixels, 8.0, regions)
    with pytest.raises(AnnotationError, match="have no region at all"):
        annotation.build()(pixels, 8.0, [])
