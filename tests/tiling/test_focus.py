"""Sharpness of tiles: against a plain loop, and on tissue blurred on purpose."""

import cv2
import numpy as np
import pytest
import tifffile

from mshisto_ray.slides import (
    SlideError,
    open_slide,
)
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.tiling.focus import measure_focus
from mshisto_ray.tiling.grid import plan_tiles
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.resolution import resolve
from mshisto_ray.tiling.slide import tile_slide

SIDE, TILE = 1600, 128  # not whole cells: tiles cross two edges of the slide


@pytest.fixture(scope="module")
def pixels():
    """Texture on the left, the same blurred by 4 um on the right; a band of glass."""
    rng = np.random.default_rng(3)
    texture = rng.normal(0, 60, (SIDE // 2, SIDE // 2, 3))
    texture = cv2.resize(texture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    drawn = (np.array([170, 80, 150]) + texture).clip(0, 255).astype(np.uint8)
    drawn[1152:1408] = 243
    drawn[:, 1024:] = cv2.GaussianBlur(drawn, (0, 0), 8)[:, 1024:]
    return drawn


@pytest.fixture(scope="module")
def write(tmp_path_factory, pixels):
    """Writes ``pixels`` at 0.5 um/px with levels of these downsamples."""

    def write(factors):
        path = tmp_path_factory.mktemp("slides") / "a.tiff"
        with tifffile.TiffWriter(path) as tiff:
            for factor in factors:
                size = (SIDE // factor, SIDE // factor)
                level = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
                tiff.write(
                    level, tile=(128, 128), photometric="rgb", compression="zlib",
                    subfiletype=int(factor > 1), resolutionunit="CENTIMETER",
                    resolution=(2e4 / factor, 2e4 / factor),
                )  # fmt: skip
        return path

    return write


def tiled(path, **changes):
    raw = {"scales": [0.5, 1.0], "tile_px": TILE} | changes
    row = CohortSlide("s", "p", path, None, None, {})
    return tile_slide(row, TilingRecipe(**raw))


def test_equals_a_plain_loop_over_tiles(write):
    path = write((1, 4))
    slide = open_slide(path, "openslide")
    rng = np.random.default_rng(0)
    tissue = cv2.resize(rng.random((12, 12)), (100, 100)) > 0.4
    readings = resolve(0.5, slide.levels, [0.5, 1.0], TILE, 0.02)
    plans = plan_tiles(tissue, 16.0, (SIDE, SIDE), readings, 0.3, 1024)
    found = measure_focus(slide, plans, tissue, 16.0, TILE, 2.0)
    quarter = slide.read(1, 0, 0, SIDE // 4, SIDE // 4)
    luma = cv2.cvtColor(quarter, cv2.COLOR_RGB2GRAY).astype(float)
    cell = 2 * TILE // 4
    compared = 0
    for plan, scores in zip(plans, found, strict=True):
        side = int(plan.reading.extent) // 4
        for x, y, score in zip(plan.x, plan.y, scores, strict=True):
            values = []
            for i in range(y // 4, y // 4 + side):
                for j in range(x // 4, x // 4 + side):
                    border = {i % cell, j % cell} & {0, cell - 1}
                    if border or max(i, j) >= SIDE // 4 - 1:
                        continue
                    if not tissue[i * 4 // 16, j * 4 // 16]:
                        continue
                    around = luma[i - 1, j] + luma[i + 1, j]
                    around += luma[i, j - 1] + luma[i, j + 1]
                    values.append(around - 4 * luma[i, j])
            assert score == pytest.approx(np.var(values), rel=1e-5)
            compared += 1
    slide.close()
    assert compared > 100
    assert any((plan.x + plan.reading.extent > SIDE).any() for plan in plans)


def test_blurred_tissue_scores_below_sharp_tissue_at_every_scale(write):
    result = tiled(write((1, 4)))
    for plan, scores in zip(result.plans, result.focus, strict=True):
        blurred = plan.x >= 1024
        assert not np.isnan(scores).any()
        assert 0 < blurred.sum() < len(blurred)
        assert scores[blurred].max() < scores[~blurred].min() / 10


def test_glass_in_a_tile_does_not_make_it_blurred(write):
    result = tiled(write((1, 4)), tile_px=200, scales=[0.5])
    (plan,), (scores,) = result.plans, result.focus
    sharp = plan.x + 200 <= 1024
    partly = plan.tissue < 0.9
    assert (sharp & partly).any()
    whole = scores[sharp & ~partly]
    assert (scores[sharp & partly] > whole.min() / 2).all()


@pytest.mark.parametrize(
    ("factors", "changes"), [((1,), {}), ((1, 4), {"focus_mpp": None})]
)
def test_unknown_sharpness_is_null(write, factors, changes):
    """With level 0 alone the whole slide would have to be decoded."""
    (table,) = tiled(write(factors), **changes).tiles
    assert table["focus"].null_count == table.num_rows > 0


def test_sharpness_is_unknown_where_a_slide_is_damaged(write):
    slide = open_slide(write((1, 4)), "openslide")

    class Damaged:
        levels = slide.levels

        def read(self, level, x, y, width, height):
            if x == 2 * TILE and y == 0:
                raise SlideError("UnreadableRegion", "the file is damaged here")
            return slide.read(level, x, y, width, height)

    tissue = np.ones((100, 100), bool)
    readings = resolve(0.5, slide.levels, [0.5, 1.0], TILE, 0.02)
    plans = plan_tiles(tissue, 16.0, (SIDE, SIDE), readings, 0.5, 1024)
    found = measure_focus(Damaged(), plans, tissue, 16.0, TILE, 2.0)
    slide.close()
    for plan, scores in zip(plans, found, strict=True):
        there = (plan.x // (2 * TILE) == 1) & (plan.y // (2 * TILE) == 0)
        assert np.isnan(scores[there]).all()
        assert not np.isnan(scores[~there]).any()
