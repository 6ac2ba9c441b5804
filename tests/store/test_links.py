import shutil

import numpy as np
import pytest

from mshisto_ray.store.embeddings import EmbeddingDirectory, shard_path
from mshisto_ray.store.features import count_tiles
from mshisto_ray.store.links import grid_parents, link, read_places


def grid(rng, size, share):
    """Some tiles of a grid, sorted by (row, col)."""
    tiles = np.argwhere(rng.random((size, size)) < share)
    return tiles[:, 0].astype(np.int32), tiles[:, 1].astype(np.int32)


@pytest.mark.parametrize("factors", [[2], [4], [2, 2], [4, 4], [2, 4]], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_children_equal_those_of_a_plain_loop(factors, share):
    rng = np.random.default_rng(int(10 * share) + len(factors))
    size, places = 3, [grid(rng, 3, 0.7)]
    for k in factors:
        size *= k
        places.append(grid(rng, size, share))
    found = link(len(places[0][0]), grid_parents(places, factors))
    parents = list(zip(*(part.tolist() for part in places[0]), strict=True))
    for children, fine, k in zip(found, places[1:], factors, strict=True):
        tiles = list(zip(*(part.tolist() for part in fine), strict=True))
        wanted, laid_out = [], []
        for row, col in parents:
            own = [t for t in tiles if (t[0] // k, t[1] // k) == (row, col)]
            wanted.append(len(own))
            laid_out += own
        assert children.counts.tolist() == wanted
        assert [tiles[i] for i in children.rows] == laid_out
        parents = laid_out


def test_tiles_of_an_absent_parent_are_left_out():
    coarse = np.array([0]), np.array([1])
    fine = np.array([0, 0, 1]), np.array([0, 2, 3])
    (children,) = link(1, grid_parents([coarse, fine], [2]))
    assert children.rows.tolist() == [1, 2] and children.counts.tolist() == [2]


def test_a_leftover_shard_is_ignored(make_embeddings):
    """A slide tiled anew with fewer chunks may have left one."""
    values = np.arange(24, dtype=np.float32).reshape(12, 2)
    path = make_embeddings({"a": {0.5: values, 1.0: values[:4]}})
    shutil.copy(shard_path(path, "a", 0), shard_path(path, "a", 2))
    directory = EmbeddingDirectory(path)
    for mpp in (0.5, 1.0):
        tiles = directory.read("a", mpp, own_only=False)
        row, col = read_places(directory, "a", mpp)
        assert row.tolist() == tiles.row.tolist()
        assert col.tolist() == tiles.col.tolist()
        own = directory.read("a", mpp)
        assert count_tiles(directory, mpp).tolist() == [len(own.row)]


def test_own_tiles_are_counted_in_the_shards_once_in_a_process(make_embeddings):
    values = np.arange(24, dtype=np.float32).reshape(12, 2)
    path = make_embeddings({"a": {0.5: values}, "b": {0.5: values[:3]}})
    found = count_tiles(EmbeddingDirectory(path), 0.5)
    for name in ("a", "b"):
        shutil.rmtree(shard_path(path, name, 0).parent, ignore_errors=True)
    again = count_tiles(EmbeddingDirectory(path), 0.5)
    assert found.tolist() == again.tolist() == [12, 3]
    again[0] = 0
    assert count_tiles(EmbeddingDirectory(path), 0.5).tolist() == [12, 3]
