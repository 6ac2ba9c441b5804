"""The contract of every stain normalisation, and the properties of Reinhard's."""

import cv2
import numpy as np
import openslide as raw
import pytest

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.embedding.colour import Look, in_colour
from mshisto_ray.embedding.stains import none, reinhard

FAMILY = "mshisto_ray.embedding.stains"
PINK, PURPLE = np.array([214, 150, 190]), np.array([120, 70, 150])


def tissue(seed, shift=(0, 0, 0)):
    """Nuclei in stroma, with grain, [64, 64, 3]."""
    rng = np.random.default_rng(seed)
    nuclei = cv2.GaussianBlur(rng.random((64, 64)), (0, 0), 3)
    nuclei = (nuclei > np.quantile(nuclei, 0.7))[..., None]
    pixels = np.where(nuclei, PURPLE, PINK) + rng.normal(0, 6, (64, 64, 3)) + shift
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(params=components.available(FAMILY))
def stain(request):
    return components.build(FAMILY, Part(name=request.param))


def test_tiles_are_independent_of_their_batch(stain):
    tiles = np.stack([tissue(i, (0, 20 * i, 0)) for i in range(3)])
    whole = stain(tiles)
    assert whole.shape == tiles.shape and whole.dtype == np.uint8
    for tile, result in zip(tiles, whole, strict=True):
        np.testing.assert_array_equal(stain(tile[None])[0], result)


@pytest.mark.parametrize("level", [255, 244, 236])
def test_glass_stays_as_it_is(stain, level):
    """Near-white tiles: their noise is not turned into colour."""
    rng = np.random.default_rng(0)
    glass = np.clip(level + rng.normal(0, 1.5, (2, 64, 64, 3)), 0, 255)
    glass = glass.astype(np.uint8)
    np.testing.assert_array_equal(stain(glass), glass)


def test_glass_beside_tissue_stays_as_it_is(stain):
    tile = tissue(0)
    tile[:, 20:] = 246  # two thirds glass
    result = stain(tile[None])[0]
    np.testing.assert_array_equal(result[:, 20:], tile[:, 20:])


def test_a_tile_of_one_colour_gets_no_texture(stain):
    rng = np.random.default_rng(0)
    flat = (PINK + rng.normal(0, 1, (64, 64, 3))).astype(np.uint8)
    assert stain(flat[None]).std(axis=(1, 2)).max() < 4


def test_reinhard_brings_stainings_together():
    tiles = np.stack([tissue(0), tissue(0, (-25, -30, -10)), tissue(0, (10, 30, -20))])
    before = np.ptp(tiles.mean(axis=(1, 2)), axis=0)
    after = np.ptp(reinhard.build()(tiles).mean(axis=(1, 2)), axis=0)
    assert before.min() > 8
    assert after.max() < 8


def test_reinhard_reaches_its_target_on_tissue():
    (result,) = reinhard.build()(tissue(1)[None])
    lab = cv2.cvtColor(result.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    mean, spread = lab.mean(axis=(0, 1)), lab.std(axis=(0, 1))
    np.testing.assert_allclose(mean, reinhard.TARGETS["cmu_1"][0], atol=4)
    assert (spread < np.array(reinhard.TARGETS["cmu_1"][1]) + 3).all()


@pytest.mark.parametrize("pale", [(228, 214, 228), (225, 212, 232)])
def test_pale_tissue_beside_dark_does_not_turn_green(pale):
    """Its colour is far from the tile's mean, and its hue is preserved."""
    tile = tissue(2, (-30, -30, -10))
    tile[:, 56:] = pale
    (result,) = reinhard.build()(tile[None])
    lab = cv2.cvtColor(result.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    assert lab[:, 56:, 1].min() > 0 and lab[:, 56:, 0].min() > 80


def test_real_tissue_does_not_turn_green(test_data):
    slide = raw.OpenSlide(test_data / "slides" / "lymphnode_HE_half.tiff")
    places = [(x, y) for x in range(1500, 6000, 900) for y in range(2000, 6000, 900)]
    regions = [slide.read_region(place, 0, (256, 256)) for place in places]
    tiles = np.stack([np.asarray(region.convert("RGB")) for region in regions])
    for tile, result in zip(tiles, reinhard.build()(tiles), strict=True):
        before, after = (
            cv2.cvtColor(t.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 1]
            for t in (tile, result)
        )
        assert ((after < -2) & (before > -1)).mean() < 0.01


def test_the_named_target_is_that_of_its_slide(test_data):
    slide = raw.OpenSlide(test_data / "slides" / "CMU-1-Small-Region.svs")
    pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    found = reinhard.weighted_statistics(lab, reinhard.tissue_weight(lab))
    np.testing.assert_allclose(found, reinhard.TARGETS["cmu_1"], atol=0.1)


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
