"""Requirements of every pair source."""

import numpy as np
import pytest
from fixtures.parts import checked, examples

from mshisto_ray import components
from mshisto_ray.contrastive.pairs import (
    draw_batch,
)

PAIRS = "mshisto_ray.contrastive.pairs"
every = pytest.mark.parametrize("part", examples(PAIRS))


def source_of(part, index):
    return components.build(PAIRS, checked(PAIRS, part), index)


@every
def test_any_part_of_a_batch_is_drawn_alike(part, make_index):
    source = source_of(part, make_index())
    whole = source.draw(1, 9, np.arange(40))
    assert whole.shape == (40, 2)
    for size in (1, 2, 4):
        parts = np.split(np.arange(40), size)
        again = np.concatenate([source.draw(1, 9, numbers) for numbers in parts])
        np.testing.assert_array_equal(again, whole)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(source.draw(1, 9, order), whole[order])


@every
def test_steps_and_seeds_draw_differently(part, make_index):
    source = source_of(part, make_index())
    numbers = np.arange(40)
    first = source.draw(1, 0, numbers)
    assert not np.array_equal(source.draw(1, 1, numbers), first)
    assert not np.array_equal(source.draw(2, 0, numbers), first)


@every
def test_relations_are_symmetric_disjoint_and_without_self(part, make_index):
    source = source_of(part, make_index())
    source.check(24)
    batch = draw_batch(source, 0, 0, 24)
    assert batch.tiles.shape == (48,) and batch.missing == 0
    for relation in (batch.positive, batch.negative):
        assert relation.shape == (48, 48) and relation.dtype == bool
        assert np.array_equal(relation, relation.T) and not relation.diagonal().any()
    assert not (batch.positive & batch.negative).any()
    single = components.declaration(PAIRS, part[0], "SINGLE", False)
    assert batch.positive.any() != single and batch.negative.any()


@every
def test_every_tile_takes_part(part, make_index):
    index = make_index(side=6, labels=[0, 1, 0, 1, 0, 1])
    source = source_of(part, index)
    drawn = [source.draw(0, step, np.arange(200)).reshape(-1) for step in range(60)]
    seen = np.unique(np.concatenate(drawn))
    assert len(seen) > 0.97 * len(index)
