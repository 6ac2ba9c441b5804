"""Detections on two hand-made maps against lesions and points, counted on paper.

A pixel is 1 um and a tile 100 px, so a tile is 0.01 mm2. Slide a has 36 tiles, slide b
24: 0.60 mm2 together. Tiles are (row, col); those without a value below are 0.

    a   (0, 0) .9   (0, 1) .8   (2, 4) .7   (4, 4) .6   (5, 0) .3
    b   (1, 1) .8   (3, 5) .6   (0, 3) .4
"""

import numpy as np
import pytest
import shapely

from mshisto_ray.maps.making import Settings, map_slide, measure_slide
from mshisto_ray.maps.measures import summarise
from mshisto_ray.maps.source import SlideScores

SIDE = 100
MAPS = {
    "a": ((6, 6), {(0, 0): 0.9, (0, 1): 0.8, (2, 4): 0.7, (4, 4): 0.6, (5, 0): 0.3}),
    "b": ((4, 6), {(1, 1): 0.8, (3, 5): 0.6, (0, 3): 0.4}),
}
LESIONS = {
    # The tiles (0, 0) and (0, 1); (4, 4); (5, 2), which has no probability.
    "a": [(0, 0, 200, 100), (400, 400, 500, 500), (200, 500, 300, 600)],
    "b": [(500, 300, 600, 400)],  # the tile (3, 5)
}
POINTS = {
    # In the middle of (0, 0); 50 um from those of (0, 1), (4, 4) and (2, 4); nowhere.
    "a": [(50, 50), (150, 100), (450, 500), (450, 300), (50, 350)],
    "b": [(150, 150), (170, 150)],  # both near (1, 1), which can find one
}
SETTINGS = Settings(
    smooth_um=0, threshold=0.5, min_area_mm2=0, peak_um=SIDE, peak_threshold=0.5,
    tolerance_um=60,
)  # fmt: skip


def measured(of_points):
    found = []
    for slide, (shape, values) in MAPS.items():
        tumour = np.zeros(shape)
        for place, value in values.items():
            tumour[place] = value
        row, col = (part.ravel() for part in np.indices(shape))
        both = np.stack([1 - tumour.ravel(), tumour.ravel()], 1)
        scores = SlideScores(slide, 1.0, row, col, SIDE, both)
        size = shape[1] * SIDE, shape[0] * SIDE
        made = map_slide(scores, "tumour", 1, 1.0, size, SETTINGS)
        assert len(made.peaks) == len(values)
        lesions = [shapely.box(*box) for box in LESIONS[slide]]
        points = np.array(POINTS[slide], float) if of_points else None
        found.append(measure_slide(made, slide, lesions, points, SETTINGS)[0])
    summary = summarise(found, SETTINGS.peak_threshold, of_points)
    return {name: interval.value for name, interval in summary.items()}


def test_lesions():
    """Areas, and detections of at least .5.

    Found areas: 4 + 2 tiles; annotated 4 + 1; both 3 + 1. Of the 4 lesions 2 + 1 are
    found ((0, 1) finds one again: neither a hit nor false); false are (2, 4) and
    (1, 1), 2 on 0.60 mm2.

    All thresholds, as lesions found of 4 and false positives on two slides:
    .9: 1, 0;  .8: 1, 1;  .7: 1, 2;  .6: 3, 2;  .4: 3, 3;  .3: 3, 4.
    """
    found = measured(of_points=False)
    wanted = {
        "dice": 2 * 4 / (6 + 5),
        "iou": 4 / 7,
        "sensitivity": 3 / 4,
        "fp_per_slide": 2 / 2,
        "fp_per_mm2": 2 / 0.60,
        "sensitivity_at_0.25": 1 / 4,
        "sensitivity_at_0.5": 1 / 4,
        "sensitivity_at_1": 3 / 4,
        "sensitivity_at_2": 3 / 4,
        "sensitivity_at_4": 3 / 4,
        "sensitivity_at_8": 3 / 4,
        "froc": (2 * 1 / 4 + 4 * 3 / 4) / 6,
    }
    assert found == pytest.approx(wanted)


def test_points():
    """Within 60 um, each found once, of detections of at least .5.

    On a .9, .8, .7 and .6 find one each of 5; on b .8 finds one of 2 and .6 none: 5 of
    7, and 1 false positive of 6 detections. All thresholds, as points found of 7 and
    false positives on two slides:
    .9: 1, 0;  .8: 3, 0;  .7: 4, 0;  .6: 5, 1;  .4: 5, 2;  .3: 5, 3.
    """
    found = measured(of_points=True)
    wanted = {
        "sensitivity": 5 / 7,
        "precision": 5 / 6,
        "f1": 2 * 5 / (7 + 6),
        "fp_per_slide": 1 / 2,
        "fp_per_mm2": 1 / 0.60,
        "sensitivity_at_0.25": 4 / 7,
        "sensitivity_at_0.5": 5 / 7,
        "sensitivity_at_8": 5 / 7,
        "froc": (4 / 7 + 5 * 5 / 7) / 6,
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
