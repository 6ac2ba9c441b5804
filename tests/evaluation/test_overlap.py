import math

import numpy as np
import pytest
import shapely

from mshisto_ray.evaluation.overlap import areas, dice, iou


def masks_of(*boxes):
    """Boxes of whole pixels as a mask and as polygons."""
    mask = np.zeros((30, 30), bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask, [shapely.box(*box) for box in boxes]


def test_values_are_those_of_pixels():
    one, found = masks_of((0, 0, 10, 10), (5, 5, 15, 12), (20, 20, 25, 25))
    other, annotated = masks_of((8, 2, 18, 9), (22, 18, 30, 30))
    a, b, both = areas(found, annotated)
    assert (a, b, both) == (one.sum(), other.sum(), (one & other).sum())
    assert dice(a, b, both) == pytest.approx(
        2 * (one & other).sum() / (one.sum() + other.sum())
    )
    assert iou(a, b, both) == pytest.approx((one & other).sum() / (one | other).sum())


def test_edges():
    assert areas([], []) == (0, 0, 0)
    assert math.isnan(dice(0, 0, 0)) and math.isnan(iou(0, 0, 0))
    assert dice(3, 0, 0) == 0 and iou(3, 0, 0) == 0
    box = [shapely.box(0, 0, 2, 2)]
    assert dice(*areas(box, box)) == iou(*areas(box, box)) == 1
