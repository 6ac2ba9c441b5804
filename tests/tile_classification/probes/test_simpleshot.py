import numpy as np
from sklearn.neighbors import NearestCentroid

from mshisto_ray.tile_classification.probes import Fold, simpleshot

EXAMPLES = [{}, {"shots": 5}, {"shots": 1000, "seed": 3}]
FOLD = Fold(np.arange(100), np.arange(100, 180), np.arange(180, 240), (0, 1))


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_equals_scikit_learn(planted_tiles):
    samples = planted_tiles(classes=3)
    values = samples.features.values.astype(float)
    mean = values[:180].mean(0)
    model = NearestCentroid().fit(unit(values[:180] - mean), samples.target[:180])
    test = unit(values[180:] - mean)
    found = simpleshot.build()(samples, FOLD)
    np.testing.assert_array_equal(found.argmax(1), model.predict(test))
    gap = ((test[:, None] - model.centroids_) ** 2).sum(2)
    wanted = np.exp(-gap) / np.exp(-gap).sum(1, keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_few_shots_are_as_many_tiles_of_each_class(planted_tiles):
    samples = planted_tiles(classes=2)
    one = simpleshot.build(shots=1, seed=4)(samples, FOLD)
    # With one shot the centroid is a tile: some pair of known tiles explains it.
    values = samples.features.values.astype(float)
    mean = values[:180].mean(0)
    known, test = unit(values[:180] - mean), unit(values[180:] - mean)
    gap = ((test[:, None] - known) ** 2).sum(2)
    first, second = (np.flatnonzero(samples.target[:180] == c) for c in (0, 1))
    logits = gap[:, first][:, :, None] - gap[:, second][:, None, :]
    pairs = 1 / (1 + np.exp(-logits))
    errors = np.abs(pairs - one[:, 1][:, None, None]).max(0)
    assert (errors < 1e-9).sum() == 1


def test_all_shots_are_all_tiles_and_seeds_differ(planted_tiles):
    samples = planted_tiles(classes=3)
    whole = simpleshot.build()(samples, FOLD)
    np.testing.assert_allclose(simpleshot.build(shots=500)(samples, FOLD), whole)
    one, two = (simpleshot.build(shots=2, seed=s)(samples, FOLD) for s in (0, 1))
    assert np.abs(one - two).max() > 1e-3
