import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.contrastive.pairs import draw_batch, single_tile


def test_a_batch_is_of_tiles_of_which_none_are_alike(make_index):
    index = make_index()
    source = single_tile.build(index)
    batch = draw_batch(source, 0, 0, 30)
    differ = batch.tiles[:, None] != batch.tiles
    np.testing.assert_array_equal(batch.negative, differ)
    assert not batch.positive.any()
    drawn = source.draw(0, 1, np.arange(20000)).reshape(-1)
    counts = np.bincount(drawn, minlength=len(index))
    assert counts.std() / np.sqrt(counts.mean()) == pytest.approx(1, abs=0.2)


def test_one_tile_is_refused(make_index):
    index = make_index()
    with pytest.raises(InputError, match="needs two tiles"):
        single_tile.build(index.subset(np.arange(1))).check(8)
