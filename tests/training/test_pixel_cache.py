import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.pixel_cache import CachedReader, PixelCacheConfig
from mshisto_ray.training.reading import IndexedTileReader
from mshisto_ray.training.tile_index import read_index

TILE_GIB = 3 * 64**2 / 2**30


@pytest.fixture(scope="module")
def directory(phantom):
    return TileDirectory(phantom / "tiles")


@pytest.fixture(scope="module")
def index(directory):
    return read_index(directory, list(directory.slides), {})


class Counting(IndexedTileReader):
    """A reader that records the tiles it is asked for."""

    def __call__(self, tiles, of=None):
        self.asked = [*getattr(self, "asked", []), len(tiles)]
        return super().__call__(tiles, of)


@pytest.mark.parametrize("room", [40, 10_000])
def test_pixels_are_the_slides_to_the_byte(directory, index, tmp_path, room):
    reader = Counting(directory, index, 1)
    settings = PixelCacheConfig(dir=tmp_path, max_gib=room * TILE_GIB)
    cache = CachedReader(reader, len(index), 64, settings)
    generator = np.random.default_rng(0)
    for _ in range(4):
        tiles = np.sort(generator.choice(80, 30, replace=False))
        plain, held = IndexedTileReader(directory, index, 1)(tiles), cache(tiles)
        np.testing.assert_array_equal(held.pixels, plain.pixels)
        np.testing.assert_array_equal(held.readable, plain.readable)
        np.testing.assert_array_equal(held.tiles, plain.tiles)
    assert reader.asked[0] == 30 and sum(reader.asked[1:]) < 90
    again = len(reader.asked)
    cache(tiles)
    # All fit: nothing is read again. Some fit: the rest is.
    assert (len(reader.asked) == again) == (room > 80)
    assert not list(tmp_path.iterdir())


def test_a_tile_that_cannot_be_read_is_no_majority(directory, index, tmp_path):
    cache = CachedReader(
        IndexedTileReader(directory, index, 1), len(index), 64,
        PixelCacheConfig(dir=tmp_path, max_gib=1000 * TILE_GIB),
    )  # fmt: skip
    slide = index.slide(np.arange(len(index)))
    some = np.flatnonzero(slide == 1)[:20]
    cache(some)
    record = directory.slides["slide_0000"]
    held = directory.slides
    try:
        gone = {**record, "path": str(tmp_path / "gone.tiff")}
        directory.slides = {**held, "slide_0000": gone}
        first = np.flatnonzero(slide == 0)[:2]
        for _ in range(2):
            found = cache(np.concatenate([first, some]))
            assert found.readable.tolist() == [False] * 2 + [True] * 20
            assert (found.pixels[:2] == 255).all()
    finally:
        directory.slides = held


def test_a_disk_without_room_is_refused(directory, index, tmp_path):
    settings = PixelCacheConfig(dir=tmp_path / "gone", max_gib=1)
    with pytest.raises(InputError, match=r"lower runtime\.pixel_cache\.max_gib"):
        CachedReader(IndexedTileReader(directory, index, 1), len(index), 64, settings)
