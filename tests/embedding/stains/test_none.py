from fixtures.stained import tissue

from mshisto_ray.embedding.stains import none


def test_tiles_stay_as_they_are():
    tiles = tissue(0)[None]
    assert none.build()(tiles) is tiles
