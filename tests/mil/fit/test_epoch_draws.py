"""Draws of an epoch."""

import numpy as np

from mshisto_ray.mil.fit.epoch_draws import epoch_draws

DRAWS = np.stack([np.arange(10), np.zeros(10, int)], 1)
CLASSES = np.array([1, 0, 0, 0, 2, 0, 0, 0, 0, 1])


def test_all_draws_come_once():
    found = epoch_draws(DRAWS, None, np.random.default_rng(0))
    expected = np.random.default_rng(0).permutation(DRAWS)
    np.testing.assert_array_equal(found, expected)


def test_balanced_classes_come_as_often_and_no_bag_more_than_once_more():
    order, seen = np.random.default_rng(0), np.zeros(10, int)
    for _ in range(200):
        found = epoch_draws(DRAWS, CLASSES, order)
        assert len(found) == 10
        counts = np.bincount(CLASSES[found[:, 0]], minlength=3)
        assert sorted(counts) == [3, 3, 4]
        for code in range(3):
            times = np.bincount(found[:, 0], minlength=10)[code == CLASSES]
            assert times.max() - times.min() <= 1
        seen += np.bincount(found[:, 0], minlength=10)
    assert seen.min() > 50  # of seven, every bag has its turn
