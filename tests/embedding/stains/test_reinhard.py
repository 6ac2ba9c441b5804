import cv2
import numpy as np
import openslide as raw
import pytest
from fixtures.stained import tissue
from PIL import Image

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.embedding.stains import reinhard
from mshisto_ray.embedding.worker import STAINS, stain_recipe


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
    """Its colour is far below the tile's mean, and stays on its side of white."""
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


def test_whole_tiles_are_moved_as_published(tmp_path):
    """Every pixel, glass too: mean and spread of each channel become the target's."""
    Image.fromarray(tissue(5, (10, -20, 15))).save(tmp_path / "target.png")
    target = np.asarray(Image.open(tmp_path / "target.png"))
    stain = reinhard.build(image=tmp_path / "target.png", over="tile")
    tile = tissue(2)
    (found,) = stain(tile[None])

    def lab(pixels):
        return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)

    wanted = np.empty_like(lab(tile))
    for channel in range(3):
        own, other = lab(tile)[..., channel], lab(target)[..., channel]
        scaled = (own - own.mean()) / own.std() * other.std() + other.mean()
        wanted[..., channel] = scaled
    expected = cv2.cvtColor(wanted, cv2.COLOR_LAB2RGB).clip(0, 1) * 255
    assert np.abs(found - expected).max() <= 0.5 + 1e-3
    flat = np.full((1, 16, 16, 3), 180, np.uint8)
    assert np.ptp(stain(flat), axis=(1, 2)).max() == 0  # no spread, no texture


def test_an_image_gives_the_staining_to_reach(tmp_path):
    Image.fromarray(tissue(1, (10, -20, 15))).save(tmp_path / "target.png")
    stain = reinhard.build(image=tmp_path / "target.png")
    target = np.asarray(Image.open(tmp_path / "target.png"))
    (found,) = stain(tissue(2)[None])
    gap = np.abs(found.mean((0, 1)) - target.mean((0, 1)))
    assert (
        gap.max() < 8
        and gap.max() < np.abs(tissue(2).mean((0, 1)) - target.mean((0, 1))).max()
    )
    Image.new("RGB", (8, 8), "white").save(tmp_path / "white.png")
    with pytest.raises(InputError, match=r"stain\.image: .* is nearly all glass"):
        reinhard.build(image=tmp_path / "white.png")
    with pytest.raises(InputError, match=r"stain\.image: .*absent\.png: cannot be"):
        reinhard.build(image=tmp_path / "absent.png")


def test_a_recipe_names_what_changes_pixels(tmp_path):
    def of(**parameters):
        part = components.check(STAINS, Part(name="reinhard", **parameters))
        return stain_recipe(part)

    # As before there were other keys.
    assert of() == {"name": "reinhard", "target": "cmu_1"}
    assert stain_recipe(Part(name="none")) == {"name": "none"}
    assert of(over="tile")["over"] == "tile"
    for number in (1, 2):
        Image.fromarray(tissue(number)).save(tmp_path / f"{number}.png")
    one, two = (of(image=str(tmp_path / f"{n}.png")) for n in (1, 2))
    assert one != two and str(tmp_path) not in str(one)
