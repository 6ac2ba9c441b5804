"""Every tile once an epoch, in batches of one size, whatever the window and storage."""

import numpy as np
import pytest

from mshisto_ray.tile_classification.head import epochs as module
from mshisto_ray.tile_classification.head.epochs import Epochs


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 7)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("window", [1, 16, 50, 10**6])
def test_an_epoch_holds_every_tile_once(planted_tiles, streamed, window):
    samples = planted_tiles(streamed=streamed)
    index = np.flatnonzero(np.arange(len(samples)) % 3 > 0)
    found = list(Epochs(samples, index, window, False).batches(32, rng()))
    sizes = [len(target) for _, target in found]
    assert sizes[:-1] == [32] * (len(sizes) - 1) and sum(sizes) == len(index)
    values = np.concatenate([v for v, _ in found])
    whole = planted_tiles().read(index)
    target = np.concatenate([t for _, t in found])
    order = np.lexsort(values.T)
    wanted = np.lexsort(whole.T)
    np.testing.assert_array_equal(values[order], whole[wanted])
    np.testing.assert_array_equal(target[order], samples.target[index][wanted])


def test_order_is_decided_by_the_generator_and_new_in_every_epoch(planted_tiles):
    stream = Epochs(planted_tiles(), np.arange(240), 50, False)

    def order(generator):
        return np.concatenate([v[:, 0] for v, _ in stream.batches(32, generator)])

    generator = rng()
    first, second = order(generator), order(generator)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, order(rng()))


def test_windows_mix_places_far_apart(planted_tiles):
    samples = planted_tiles(slides=8, per_slide=30)
    whole = samples.features.values[:, 0].tolist()
    batches = Epochs(samples, np.arange(240), 80, False).batches(40, rng())
    slides = [{whole.index(v) // 30 for v in values[:, 0]} for values, _ in batches]
    assert min(map(len, slides)) >= 4


def test_balanced_epochs_have_as_many_tiles_of_each_class(planted_tiles):
    samples = planted_tiles(classes=3)
    index = np.flatnonzero((samples.target == 0) | (np.arange(240) % 10 < 2))
    found = list(Epochs(samples, index, 10**6, True).batches(32, rng()))
    counts = np.bincount(np.concatenate([t for _, t in found]))
    assert len(set(counts.tolist())) == 1 and abs(counts.sum() - len(index)) < 3


def test_slides_in_parquet_are_read_once_an_epoch(planted_tiles):
    samples = planted_tiles(streamed=True)
    list(Epochs(samples, np.arange(240), 50, False).batches(32, rng()))
    assert sorted(samples.features.reads) == list(range(8))
