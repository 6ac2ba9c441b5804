import numpy as np

from mshisto_ray.contrastive.pairs import draw_batch, same_tile


def test_same_tile_is_positive_to_itself_alone(make_index):
    source = same_tile.build(make_index())
    batch = draw_batch(source, 0, 0, 30)
    same = batch.tiles[:, None] == batch.tiles
    np.testing.assert_array_equal(batch.positive, same & ~np.eye(60, dtype=bool))
    np.testing.assert_array_equal(batch.negative, ~same)
