"""Real slides: plans are right, and every pixel is OpenSlide's or its exact average."""

import itertools
import math

import numpy as np
import openslide as raw
import pytest

from mshisto_ray.slides import (
    SlideError,
    open_slide,
)
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.record import readings_of
from mshisto_ray.tiling.slide import tile_slide

# name, mpp for the files that do not record it, share of the slide that is tissue as
# read off its picture (bounds)
SLIDES = [
    ("slides/CMU-1-Small-Region.svs", None, (0.3, 0.45)),
    ("slides/crohn_HE4_20x.tiff", None, (0.15, 0.25)),
    ("slides/hpylori_HE_20x_nompp.tiff", 0.5, (0.25, 0.33)),
    ("slides/lymphnode_HE_half.tiff", 1.0, (0.2, 0.3)),
    ("slides/pdac_trucut_HE3.svs", None, (0.05, 0.1)),
    ("slides/tcga-cr-7395-01a-01-ts1.svs", 0.5, (0.6, 0.7)),
]
REFUSED = [
    ("odd/broken.svs", "NotASlide"),
    ("odd/kidney-48-5_not_tiled.tif", "NoMpp"),
    ("odd/OS-1-detail.ome.tif", "NotASlide"),
    ("odd/test3-DAPI-2-387_fluorescence.ndpi", "NotBrightField"),
    ("slides/camelyon_multiframe_jpeg.dcm", "NoScale"),
    ("slides/lymphnode_HE_half.tiff", "NoMpp"),
]


def row(path, mpp=None):
    return CohortSlide(path.stem, path.stem, path, mpp, None, {})


@pytest.fixture(params=SLIDES, ids=lambda item: item[0])
def planned(request, test_data):
    name, mpp, bounds = request.param
    tiled = tile_slide(row(test_data / name, mpp), TilingRecipe())
    return test_data / name, tiled, bounds


def region(path, level, x, y, width, height):
    """What OpenSlide gives for a level-0 position, over white, float64."""
    with raw.OpenSlide(path) as slide:
        rgba = np.asarray(slide.read_region((x, y), level, (width, height)), float)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def averaged(pixels, top, left, span, side):
    """Area average by cumulative sums, float64: another way than the code's own."""

    def along(values, start, axis):
        total = np.concatenate(
            [np.zeros_like(values.take([0], axis)), values.cumsum(axis)], axis
        )
        at = start + span * np.arange(side + 1) / side
        low = np.minimum(np.floor(at).astype(int), total.shape[axis] - 2)
        part = np.expand_dims(at - low, tuple(a for a in range(3) if a != axis))
        lines = total.take(low, axis) * (1 - part) + total.take(low + 1, axis) * part
        return np.diff(lines, axis=axis) * side / span

    return along(along(pixels, top, 0), left, 1)


def test_tiles_equal_openslide_or_its_area_average(planned):
    path, tiled, _ = planned
    slide = open_slide(path, tiled.record["reader"])
    rng = np.random.default_rng(0)
    for plan in tiled.plans:
        reading = plan.reading
        down = slide.levels[reading.level].downsample
        for i in rng.choice(len(plan.x), min(6, len(plan.x)), replace=False):
            x, y = int(plan.x[i]), int(plan.y[i])
            tile = read_tile(slide, reading, x, y, 256)
            if reading.factor == 1:
                expected = np.rint(region(path, reading.level, x, y, 256, 256))
                np.testing.assert_array_equal(tile, expected)
                continue
            span = reading.extent / down
            col, line = math.floor(x / down), math.floor(y / down)
            side = math.ceil(span) + 2
            pixels = region(
                path, reading.level, round(col * down), round(line * down), side, side
            )
            top, left = y / down - line, x / down - col
            expected = averaged(pixels, top, left, span, 256)
            assert np.abs(tile - expected).max() <= 1.0


def test_plans_are_linked_and_the_tissue_is_found(planned):
    _, tiled, (low, high) = planned
    assert low < tiled.tissue.mean() < high
    for fine, coarse in itertools.pairwise(tiled.plans):
        k = round(coarse.reading.extent / fine.reading.extent)
        parents = set(zip(coarse.row.tolist(), coarse.col.tolist(), strict=True))
        children = zip((fine.row // k).tolist(), (fine.col // k).tolist(), strict=True)
        assert set(children) <= parents


def test_the_record_says_how_it_was_read(planned):
    _, tiled, _ = planned
    assert list(readings_of(tiled.record).values()) == [p.reading for p in tiled.plans]


@pytest.mark.parametrize(("name", "reason"), REFUSED)
def test_unusable_slides_are_refused_with_the_reason(test_data, name, reason):
    with pytest.raises(SlideError) as caught:
        tile_slide(row(test_data / name), TilingRecipe())
    assert caught.value.name == reason


def test_a_scale_too_fine_is_recorded_and_the_others_kept(test_data):
    path = test_data / "slides/lymphnode_HE_half.tiff"
    tiled = tile_slide(row(path, 1.0), TilingRecipe())
    assert [p.reading.mpp for p in tiled.plans] == [1.0, 2.0]
    (failure,) = tiled.failures
    assert (failure.mpp, failure.error) == (0.5, "NoScale")
