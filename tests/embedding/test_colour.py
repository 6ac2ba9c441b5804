import numpy as np
from fixtures.stained import tissue

from mshisto_ray.embedding.colour import Look, in_colour
from mshisto_ray.embedding.stains import none, reinhard


def test_gray_is_luma_in_three_channels():
    tiles = np.stack([tissue(0), tissue(1)])
    gray = in_colour(tiles, "gray")
    luma = tiles @ np.array([0.299, 0.587, 0.114])
    for channel in range(3):
        assert np.abs(gray[..., channel] - luma).max() <= 0.51
    assert in_colour(tiles, "rgb") is tiles


def test_a_look_stains_first_and_shows_each_colour():
    tiles = np.stack([tissue(0), tissue(1)])
    stain = reinhard.build()
    rgb, gray = Look(("rgb", "gray"), stain)(tiles)
    np.testing.assert_array_equal(rgb, stain(tiles))
    np.testing.assert_array_equal(gray, in_colour(stain(tiles), "gray"))
    (plain,) = Look(("rgb",), none.build())(tiles)
    assert plain is tiles
