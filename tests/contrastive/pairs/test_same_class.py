import numpy as np
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.contrastive.pairs import draw_batch, same_class

EXAMPLES = [{}, {"positive": "slide"}]


@pytest.mark.parametrize("positive", ["class", "slide"])
def test_relations_against_a_loop(positive, make_index):
    index = make_index(labels=[0, 1, 0, 2, -1, 1])
    source = same_class.build(index, positive=positive, mpp=0.5)
    tiles = np.random.default_rng(0).integers(0, len(index), (20, 1)).repeat(2, 1)
    found = source.relations(tiles, np.arange(20))
    flat = tiles.ravel()
    slide = index.slide(flat)
    label = index.label[slide]
    for i in range(40):
        for j in range(40):
            known = label[i] >= 0 and label[j] >= 0
            alike = (
                label[i] == label[j] if positive == "class" else slide[i] == slide[j]
            )
            near = i != j and (flat[i] == flat[j] or (known and alike))
            assert found[0][i, j] == near
            assert found[1][i, j] == (known and label[i] != label[j])


def test_classes_take_turns_at_one_scale_and_tiles_are_even(make_index):
    index = make_index(labels=[0, 0, 0, 0, 1, -1])
    source = same_class.build(index, mpp=1.0)
    drawn = []
    for step in range(60):
        batch = draw_batch(source, 0, step, 40)
        assert batch.missing == 0
        label = index.label[index.slide(batch.tiles)]
        assert np.bincount(label).tolist() == [40, 40]
        assert {index.scales[s] for s in index.scale(batch.tiles)} == {1.0}
        drawn.append(batch.tiles[::2])
    _, counts = np.unique(np.concatenate(drawn)[::2], return_counts=True)  # class 0
    assert counts.max() < 4 * counts.mean()


def test_a_batch_has_one_scale(make_index):
    index = make_index()
    source = same_class.build(index)
    drawn = [index.scale(source.draw(0, step, np.arange(20))) for step in range(20)]
    assert {len(np.unique(scales)) for scales in drawn} == {1}
    assert len(np.unique(drawn)) == len(index.scales)


def test_what_cannot_be_drawn_is_refused(make_index):
    one = same_class.build(make_index(labels=[0] * 6), mpp=0.5)
    with pytest.raises(InputError, match="needs tiles of two classes"):
        one.check(8)
    three = same_class.build(make_index(labels=[0, 1, 2, 0, 1, 2]), mpp=0.5)
    with pytest.raises(InputError, match="raise it to 6 or more"):
        three.check(2)
