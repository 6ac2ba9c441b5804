import numpy as np
import pytest
from PIL import Image, ImageDraw

from mshisto_ray.drawing import legend
from mshisto_ray.drawing.outlines import POINT, outline_keys
from mshisto_ray.drawing.overview import HEADER_PX, ScaleTiles, draw_overview

GLASS = np.full((640, 800, 3), 240, np.uint8)
NONE = np.zeros((640, 800), bool)


def tiles(x, y, extent, own, coverage=1.0, rank=0):
    own = np.array(own, bool)
    return ScaleTiles(np.array(x), np.array(y), extent, own, coverage, rank)


def body(image):
    return np.asarray(image)[HEADER_PX:].astype(int)


def test_tile_lines_lie_at_their_place_and_parents_are_fainter():
    plan = {0.5: tiles([400, 1200], [800, 800], 400.0, [True, False])}
    pixels = body(draw_overview(GLASS, 4.0, NONE, plan, "title"))
    changed = np.abs(pixels - 240).sum(-1)
    assert changed[225, 100] > changed[225, 300] > 0
    assert changed[225, 200] > 0 and changed[200, 150] > 0
    assert changed[225, 150] == changed[225, 350] == 0
    assert (changed > 0).sum() == pytest.approx(2 * 4 * 100, abs=20)


def test_tissue_is_outlined_not_filled():
    tissue = NONE.copy()
    tissue[100:300, 200:500] = True
    pixels = body(draw_overview(GLASS, 4.0, tissue, {}, "title"))
    changed = (pixels != 240).any(-1)
    assert changed[100, 350] and changed[200, 200] and changed[299, 350]
    assert not changed[110:290, 210:490].any()
    assert not changed[:99].any() and not changed[301:].any()


def test_narrow_cells_are_tinted():
    x, y = (g.ravel() for g in np.meshgrid(np.arange(100), np.arange(100)))
    plan = {0.5: tiles(x * 16, y * 16, 16.0, np.ones(10_000))}
    pixels = body(draw_overview(GLASS, 8.0, NONE, plan, "title"))
    inside = pixels[:200, :200].reshape(-1, 3)
    assert (inside == inside[0]).all()
    assert 0 < np.abs(inside[0] - 240).max() < 80
    assert (pixels[202:] == 240).all()


@pytest.mark.parametrize("shape", [(40, 30), (3000, 5000), (1, 4000)])
def test_any_thumbnail_becomes_a_bounded_picture(shape):
    thumbnail = np.full((*shape, 3), 240, np.uint8)
    tissue = np.ones(shape, bool)
    plan = {0.5: tiles([0], [0], 100.0, [True]), 1.0: tiles([], [], 200.0, [])}
    image = draw_overview(thumbnail, 10.0, tissue, plan, "slide " * 80, mpp=0.5)
    assert image.mode == "RGB"
    assert 640 <= max(image.size) <= 1600 + HEADER_PX


def test_scale_bar_has_a_round_length():
    plain = body(draw_overview(GLASS, 16.0, NONE, {}, "title"))
    barred = body(draw_overview(GLASS, 16.0, NONE, {}, "title", mpp=0.5))
    line = np.asarray(barred[640 - 16], int)
    # 8 um a pixel: 1 mm is 125 pixels, and 2 mm would be more than a fifth.
    dark = np.flatnonzero(line.sum(-1) < 200)
    assert len(dark) == 126 and np.ptp(dark) == 125
    assert (plain == 240).all()


def test_each_class_of_the_annotation_has_its_colour_at_its_place():
    square = np.array([[0, 0], [400, 0], [400, 400], [0, 400], [0, 0]], float)
    outlines = [("tumour", square + 200), ("necrosis", square + 1200)]
    pixels = body(draw_overview(GLASS, 4.0, NONE, {}, "title", outlines=outlines))
    for index, (left, colour) in enumerate(
        ((300, legend.class_colour(0)), (50, legend.class_colour(1)))
    ):
        found = (pixels == colour).all(-1)
        rows, cols = np.nonzero(found)
        assert abs(rows.min() - left) <= 2 and abs(cols.max() - left - 100) <= 2, index
        assert not found[left + 10 : left + 90, left + 10 : left + 90].any()


def test_keys_say_how_much_tissue_lies_in_tiles_of_each_scale():
    def header(coverage):
        plan = {2.0: tiles([], [], 400.0, [], coverage)}
        return np.asarray(draw_overview(GLASS, 4.0, NONE, plan, "t"))[:HEADER_PX]

    assert (header(0.58) != header(0.91)).any()
    assert (header(0.58) == header(0.581)).all()


def test_keys_that_do_not_fit_are_counted():
    page = Image.new("RGB", (400, 30), "white")
    red = (255, 0, 0)
    keys = [legend.Key(f"a class with a long name {i}", red) for i in range(9)]
    legend.draw_keys(ImageDraw.Draw(page), (10, 15), 380, keys)
    ink = (np.asarray(page) != 255).any(-1)
    assert ink[:, 10:].any() and not ink[:, 392:].any()
    assert (np.asarray(page) == (255, 0, 0)).all(-1).any(0).sum() < 4 * 13


def test_what_is_drawn_as_circles_has_a_circle_as_its_key():
    ring = np.zeros((4, 2))
    keys = outline_keys([("tumour", ring), (POINT, ring)])
    assert [key.is_round for key in keys] == [True, False]
    pages = []
    for is_round in (False, True):
        page = Image.new("RGB", (100, 30), "white")
        key = legend.Key("", (255, 0, 0), is_round)
        legend.draw_keys(ImageDraw.Draw(page), (10, 15), 80, [key])
        pages.append((np.asarray(page) == (255, 0, 0)).all(-1))
    assert pages[0][9, 10] and not pages[1][9, 10] and pages[1].any()
