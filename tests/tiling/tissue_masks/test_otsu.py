import numpy as np
import pytest
from fixtures.thumbnails import PINK, glass, with_disc

from mshisto_ray.tiling.tissue_masks import otsu


def test_a_piece_of_tissue_is_found_to_its_edge():
    pixels = glass()
    disc = with_disc(pixels, (60, 80), 30)
    found = otsu.build()(pixels, 8.0)
    assert (found & disc).sum() / (found | disc).sum() > 0.93


def test_bare_glass_has_no_tissue():
    assert not otsu.build()(glass(), 8.0).any()


def test_black_borders_are_not_tissue():
    pixels = glass()
    pixels[:10] = np.random.default_rng(1).integers(0, 12, (10, 160, 3))
    disc = with_disc(pixels, (70, 80), 25)
    found = otsu.build()(pixels, 8.0)
    assert not found[:8].any()
    assert found[disc].mean() > 0.95


def test_dust_goes_and_lumina_stay():
    pixels = glass()
    with_disc(pixels, (60, 80), 35)
    with_disc(pixels, (60, 80), 4, (240, 240, 240))  # 0.003 mm2 of lumen
    with_disc(pixels, (10, 10), 3)  # 0.002 mm2 of dust
    found = otsu.build()(pixels, 8.0)
    assert found[60, 80]
    assert not found[:20, :20].any()
    strict = otsu.build(min_object_mm2=0.0, max_hole_mm2=0.0)(pixels, 8.0)
    assert strict[10, 10] and not strict[60, 80]


@pytest.mark.parametrize("full", [True, False])
def test_a_region_full_of_tissue_is_not_split(full):
    rng = np.random.default_rng(0)
    pixels = np.clip(PINK + rng.normal(0, 12, (80, 80, 3)), 0, 255).astype(np.uint8)
    pixels[:, 40:] = np.clip(pixels[:, 40:] - [70, 90, 40], 0, 255)  # dark purple half
    if not full:
        pixels[:20] = 243
    found = otsu.build()(pixels, 8.0)
    assert found[24:].mean() > 0.99


def test_otsu_threshold_separates_two_modes():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.2, 0.02, 900), rng.normal(0.7, 0.02, 100)])
    threshold = otsu._otsu(values)
    assert (values > threshold).sum() == 100
