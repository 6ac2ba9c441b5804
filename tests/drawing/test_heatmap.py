import matplotlib
import numpy as np
import pytest

from mshisto_ray.drawing.heatmap import ScoredTiles, draw_heatmap, rescale

TOP = 38  # height of the title
WHITE = np.full((700, 800, 3), 255, np.uint8)
COLOURS = matplotlib.colormaps["viridis"]


def draw(x, y, extent, scores, thumbnail=WHITE, ratio=4.0, **more):
    tiles = ScoredTiles(np.array(x), np.array(y), extent, np.array(scores))
    image = draw_heatmap(thumbnail, ratio, tiles, "title", "attention", **more)
    height, width = thumbnail.shape[:2]
    return np.asarray(image).astype(int)[TOP : TOP + height, :width]


def expected(value, alpha=0.6):
    return 255 * (1 - alpha) + alpha * 255 * np.array(COLOURS(float(value))[:3])


def test_colours_follow_the_scores_where_tiles_lie_and_overlap():
    x, y = [0, 200, 1000, 0], [0, 0, 800, 200]
    extent, scores = np.array([400, 400, 400, 800]), [1.0, 3.0, 5.0, 2.0]
    pixels = draw(x, y, extent, scores)
    for row in range(5, 700, 31):
        for col in range(5, 800, 37):
            over = [
                (score - 1) / 4
                for left, top, side, score in zip(x, y, extent, scores, strict=True)
                if left <= col * 4 < left + side and top <= row * 4 < top + side
            ]
            want = expected(np.mean(over)) if over else (255, 255, 255)
            np.testing.assert_allclose(pixels[row, col], want, atol=1)


def test_rescale_spans_zero_to_one_and_takes_constants():
    np.testing.assert_allclose(rescale(np.array([2.0, 4.0, 3.0])), [0, 1, 0.5])
    np.testing.assert_array_equal(rescale(np.full(3, 0.2)), np.zeros(3))
    assert rescale(np.array([])).shape == (0,)
    with pytest.raises(ValueError, match="not finite"):
        rescale(np.array([0.0, np.nan]))


def test_constant_scores_have_the_lowest_colour():
    pixels = draw([0], [0], 2000, [0.7])
    np.testing.assert_allclose(pixels[100, 100], expected(0), atol=1)


def test_stain_is_faded_so_that_score_colours_stand_out():
    purple = np.full((700, 800, 3), (120, 40, 140), np.uint8)
    pixels = draw([1600], [0], 400, [1.0], thumbnail=purple)
    assert np.ptp(pixels[600, 100]) < 0.3 * 100
    assert pixels[600, 100].mean() == pytest.approx(75, abs=10)


def test_tiles_below_a_pixel_are_still_drawn():
    big = np.full((1600, 1600, 3), 255, np.uint8)
    pixels = draw([64_000, 32_000], [64_000, 32_000], 10, [0.0, 1.0], big, ratio=64.0)
    assert (pixels[1000, 1000] != 255).any() and (pixels[500, 500] != 255).any()


def test_no_tiles_leave_the_slide_as_it_is():
    assert (draw([], [], 400, []) == 255).all()


def test_small_thumbnails_are_enlarged_and_large_ones_shrunk():
    for shape in [(10, 20), (2000, 4000)]:
        thumbnail = np.full((*shape, 3), 250, np.uint8)
        tiles = ScoredTiles(np.zeros(1), np.zeros(1), 64.0, np.ones(1))
        image = draw_heatmap(thumbnail, 8.0, tiles, "t" * 999, "score", mpp=0.25)
        assert 640 <= image.width <= 1710
