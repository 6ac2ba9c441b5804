"""What every stain normalisation promises."""

import numpy as np
import pytest
from fixtures.parts import checked, examples
from fixtures.stained import PINK, tissue

from mshisto_ray import components

FAMILY = "mshisto_ray.embedding.stains"


@pytest.fixture(params=examples(FAMILY))
def stain(request):
    return components.build(FAMILY, checked(FAMILY, request.param))


def test_tiles_are_independent_of_their_batch(stain):
    tiles = np.stack([tissue(i, (0, 20 * i, 0)) for i in range(3)])
    whole = stain(tiles)
    assert whole.shape == tiles.shape and whole.dtype == np.uint8
    for tile, result in zip(tiles, whole, strict=True):
        np.testing.assert_array_equal(stain(tile[None])[0], result)


@pytest.mark.parametrize("level", [255, 244, 236])
def test_glass_stays_as_it_is(stain, level):
    """Near-white tiles: nothing of their noise becomes colour."""
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
