import matplotlib
import numpy as np
import pytest

from mshisto_ray.drawing.heatmap import (
    Caption,
    ScoredTiles,
    draw_heatmap,
    percentiles,
    rescale,
)

TOP = 38  # height of the title
WIDTH = 640
WHITE = np.full((800, WIDTH, 3), 255, np.uint8)
COLOURS = matplotlib.colormaps["viridis"]


def draw(x, y, extent, scores, thumbnail=WHITE, ratio=4.0, spread="absolute", **more):
    """The panels: the slide as it is, and with colours."""
    tiles = ScoredTiles(np.array(x), np.array(y), extent, np.array(scores), spread)
    image = draw_heatmap(thumbnail, ratio, tiles, Caption("title", "score"), **more)
    pixels = np.asarray(image).astype(int)[TOP:]
    height, width = thumbnail.shape[:2]
    return pixels[:height, :width], pixels[:height, width + 14 : 2 * width + 14]


def expected(place):
    alpha = 0.65 * np.clip((place - 0.5) / 0.25, 0, 1)
    return 255 * (1 - alpha) + alpha * 255 * np.array(COLOURS(float(place))[:3])


def test_colours_follow_the_scores_where_tiles_lie_and_overlap():
    x, y = [0, 200, 1000, 0], [0, 0, 800, 200]
    extent, scores = np.array([400, 400, 400, 800]), [0.1, 0.9, 1.0, 0.6]
    plain, pixels = draw(x, y, extent, scores)
    assert (plain == 255).all()
    for row in range(5, 700, 31):
        for col in range(5, WIDTH, 37):
            over = [
                score
                for left, top, side, score in zip(x, y, extent, scores, strict=True)
                if left <= col * 4 < left + side and top <= row * 4 < top + side
            ]
            want = expected(np.mean(over)) if over else (255, 255, 255)
            np.testing.assert_allclose(pixels[row, col], want, atol=1)


def test_one_hot_tile_leaves_the_others_their_colours():
    x = np.arange(5) * 400
    _, calm = draw(x, np.zeros(5), 400, [1, 2, 3, 4, 5], spread="percentile")
    _, hot = draw(x, np.zeros(5), 400, [1, 2, 3, 4, 5e6], spread="percentile")
    np.testing.assert_array_equal(calm, hot)
    for place, share in enumerate((0, 0.25, 0.5, 0.75, 1)):
        np.testing.assert_allclose(hot[50, place * 100 + 50], expected(share), atol=1)


def test_percentiles_are_the_share_of_others_below():
    scores = np.random.default_rng(0).integers(0, 6, 40).astype(float)
    found = percentiles(scores)
    for i, score in enumerate(scores):
        others = np.delete(scores, i)
        share = (others < score).mean() + (others == score).mean() / 2
        assert found[i] == pytest.approx(share)
    np.testing.assert_array_equal(percentiles(np.full(3, 0.2)), np.zeros(3))
    assert percentiles(np.array([])).shape == (0,)
    with pytest.raises(ValueError, match="not finite"):
        percentiles(np.array([0.0, np.nan]))


def test_rescale_spans_zero_to_one_and_takes_constants():
    np.testing.assert_allclose(rescale(np.array([2.0, 4.0, 3.0])), [0, 1, 0.5])
    np.testing.assert_array_equal(rescale(np.full(3, 0.2)), np.zeros(3))
    assert rescale(np.array([])).shape == (0,)
    with pytest.raises(ValueError, match="not finite"):
        rescale(np.array([0.0, np.nan]))


def test_equal_attention_has_no_colour():
    _, pixels = draw([0, 400], [0, 0], 400, [0.5, 0.5], spread="percentile")
    assert (pixels == 255).all()


def test_stain_is_faded_so_that_score_colours_stand_out():
    purple = np.full((800, WIDTH, 3), (120, 40, 140), np.uint8)
    plain, pixels = draw([1600], [0], 400, [1.0], thumbnail=purple)
    assert (plain[600, 100] == (120, 40, 140)).all()
    assert np.ptp(pixels[600, 100]) < 0.3 * 100
    assert pixels[600, 100].mean() == pytest.approx(75, abs=10)


def test_outlines_are_drawn_on_both_panels():
    ring = np.array([[400.0, 400], [1200, 400], [1200, 1200], [400, 400]])
    for panel in draw([], [], 400, [], outlines=[("tumour", ring)]):
        line = panel[95:106, 200]
        assert (line != 255).any() and (panel[60, 200] == 255).all()


def test_tiles_below_a_pixel_are_still_drawn():
    big = np.full((1600, 1600, 3), 255, np.uint8)
    places = [64_000, 32_000]
    _, pixels = draw(places, places, 10, [0.8, 1.0], big, ratio=64.0)
    assert (pixels[1000, 1000] != 255).any() and (pixels[500, 500] != 255).any()


def test_no_tiles_leave_the_slide_as_it_is():
    for spread in ("absolute", "percentile"):
        _, pixels = draw([], [], 400, [], spread=spread)
        assert (pixels == 255).all()


@pytest.mark.parametrize(("shape", "stacked"), [((10, 20), True), ((2000, 4000), True),
                                                ((4000, 2000), False)])  # fmt: skip
def test_pages_stay_of_a_size_that_is_looked_at(shape, stacked):
    thumbnail = np.full((*shape, 3), 250, np.uint8)
    tiles = ScoredTiles(np.zeros(1), np.zeros(1), 64.0, np.ones(1))
    caption = Caption("t" * 999, "score", "m " * 999)
    image = draw_heatmap(thumbnail, 8.0, tiles, caption, mpp=0.25)
    assert 640 <= image.width <= 1800 and image.height <= 1800
    assert (image.width < 1.5 * image.height) or not stacked
