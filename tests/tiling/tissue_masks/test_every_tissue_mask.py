"""What every tissue mask owes, whoever adds it."""

import numpy as np
import pytest
import shapely
from fixtures.parts import checked, examples
from fixtures.thumbnails import glass, with_disc

from mshisto_ray import components
from mshisto_ray.tiling.annotation import AnnotationError, Region
from mshisto_ray.tiling.tissue import MASKS


def is_drawn(part):
    return components.declaration(MASKS, part[0], "NEEDS_ANNOTATION", False)


PARTS = examples(MASKS)


@pytest.fixture(params=[p for p in PARTS if not is_drawn(p.values[0])])
def find(request):
    return components.build(MASKS, checked(MASKS, request.param))


@pytest.mark.parametrize("part", [p for p in PARTS if is_drawn(p.values[0])])
def test_what_needs_an_annotation_follows_it_and_refuses_none(part):
    mask = components.build(MASKS, checked(MASKS, part))
    regions = [Region("a", shapely.box(20, 10, 60, 50))]
    found = mask(glass(), 8.0, regions)
    assert found.dtype == bool and found.shape == (120, 160)
    assert found[10:50, 20:60].all() and found.sum() == 40 * 40
    with pytest.raises(AnnotationError):
        mask(glass(), 8.0, [])


def test_every_mask_finds_a_piece_and_nothing_on_glass(find):
    assert not find(glass(), 8.0).any()
    pixels = glass()
    disc = with_disc(pixels, (60, 80), 30)
    found = find(pixels, 8.0)
    assert found.dtype == bool and found.shape == disc.shape
    assert (found & disc).sum() / (found | disc).sum() > 0.9


def test_every_mask_leaves_black_borders_out(find):
    pixels = glass()
    pixels[:10] = np.random.default_rng(1).integers(0, 12, (10, 160, 3))
    pixels[:, :12] = 2
    disc = with_disc(pixels, (70, 80), 25)
    found = find(pixels, 8.0)
    assert not found[:8].any() and not found[:, :9].any()
    assert found[disc].mean() > 0.95
