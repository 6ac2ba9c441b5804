import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.training.draws import uniforms


def test_draws_are_a_pure_function_of_seed_purpose_step_and_row():
    many = uniforms(3, "pairs", 7, 100, 4)
    assert many.shape == (100, 4) and (many >= 0).all() and (many < 1).all()
    np.testing.assert_array_equal(uniforms(3, "pairs", 7, 10, 4), many[:10])
    others = [
        uniforms(4, "pairs", 7, 100, 4),
        uniforms(3, "slides", 7, 100, 4),
        uniforms(3, "pairs", 8, 100, 4),
    ]
    for other in others:
        assert not (other == many).any()


def test_places_survive_the_packing(make_index):
    index = make_index(num_slides=3, side=9)
    tiles = np.arange(len(index))
    places = list(
        zip(index.layer(tiles), index.row(tiles), index.col(tiles), strict=True)
    )
    assert places == sorted(places) and len(set(places)) == len(index)
    np.testing.assert_array_equal(index.slide(tiles), index.layer(tiles) // 3)
    np.testing.assert_array_equal(index.sizes(), np.bincount(index.layer(tiles)))
    tile = len(index) // 2
    pitch = index.pitch_um[index.slide(tiles)[tile], index.scale(tiles)[tile]]
    want = (np.array([index.col(tiles)[tile], index.row(tiles)[tile]]) + 0.5) * pitch
    np.testing.assert_allclose(index.centre_um(tiles)[tile], want)


def test_runs_of_a_row(make_index):
    index = make_index(num_slides=2, side=8)
    tiles = np.arange(len(index))
    layer, row, col = index.layer(tiles), index.row(tiles), index.col(tiles)
    for at, r, a, b in [(0, 3, 1, 5), (3, 0, -4, 2), (3, -1, 0, 5), (3, 7, 6, 99)]:
        start, stop = index.run(*(np.array([v]) for v in (at, r, a, b)))
        wanted = np.flatnonzero((layer == at) & (row == r) & (col >= a) & (col <= b))
        assert list(range(start[0], stop[0])) == wanted.tolist()


def test_a_subset_keeps_slides_and_places(make_index):
    index = make_index()
    kept = np.arange(5, len(index), 3)
    part = index.subset(kept)
    tiles = np.arange(len(part))
    np.testing.assert_array_equal(part.layer(tiles), index.layer(kept))
    np.testing.assert_array_equal(part.centre_um(tiles), index.centre_um(kept))
    np.testing.assert_array_equal(
        part.sizes(), np.bincount(index.layer(kept), minlength=len(part.sizes()))
    )


def test_an_absent_scale_is_named(make_index):
    with pytest.raises(InputError, match=r"no tiles at 4 um/px; there are 0.5, 1, 2"):
        make_index().scale_number(4.0)
