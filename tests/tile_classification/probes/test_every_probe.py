"""What every probe owes, whoever adds it."""

import dataclasses

import numpy as np
import pytest
from fixtures.parts import checked, examples

from mshisto_ray import components
from mshisto_ray.tile_classification.probes import FAMILY, Fold

FOLD = Fold(np.arange(0, 120), np.arange(120, 180), np.arange(180, 240), (0, 0))


def built(part):
    return components.build(FAMILY, checked(FAMILY, part))


@pytest.mark.parametrize("part", examples(FAMILY))
def test_probabilities_of_test_tiles_tell_classes_apart(planted_tiles, part):
    samples = planted_tiles(classes=3)
    found = built(part)(samples, FOLD)
    assert found.shape == (60, 3)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert (found.argmax(1) == samples.target[FOLD.test]).mean() > 0.85
    np.testing.assert_array_equal(found, built(part)(samples, FOLD))


@pytest.mark.parametrize("part", examples(FAMILY))
def test_test_tiles_change_only_their_own_predictions(planted_tiles, part):
    samples = planted_tiles(classes=3)
    values = samples.features.values.copy()
    values[230:] *= 40
    features = dataclasses.replace(samples.features, values=values)
    other = dataclasses.replace(samples, features=features)
    one, two = built(part)(samples, FOLD), built(part)(other, FOLD)
    np.testing.assert_allclose(one[:50], two[:50], rtol=1e-5, atol=1e-6)
