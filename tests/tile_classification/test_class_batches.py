import numpy as np
import pytest
import torch

from mshisto_ray.tile_classification.class_batches import ClassBatches, ClassLoss
from mshisto_ray.training.tile_index import build_index

SIZES = (3, 40, 200)  # tiles of each slide


@pytest.fixture
def index():
    layers = {(s, 0): (np.arange(n), np.zeros(n, int)) for s, n in enumerate(SIZES)}
    names = [f"s{slide}" for slide in range(len(SIZES))]
    pitch = np.ones((len(SIZES), 1))
    return build_index(layers, [0.5], pitch, names, np.arange(3), np.zeros(3, int))


def drawn(source, num=200):
    return np.concatenate([source.draw(0, step) for step in range(num)])


def test_classes_and_then_slides_are_drawn_evenly(index):
    code = np.concatenate([[0, 0, 1], np.zeros(40, int), np.full(200, 2)])
    source = ClassBatches(index, code, 16)
    tiles = drawn(source)
    counts = np.bincount(code[tiles])
    assert counts.max() - counts.min() <= 1
    slide = index.slide(tiles[code[tiles] == 0])
    # Two tiles of the first slide are as likely as forty of the second.
    assert np.bincount(slide)[0] == pytest.approx(len(slide) / 2, rel=0.1)
    assert set(tiles) == set(range(sum(SIZES)))
    for step in range(5):
        each = np.bincount(code[source.draw(0, step)], minlength=3)
        assert each.max() - each.min() <= 1


def test_a_batch_is_a_function_of_seed_and_step(index):
    code = np.arange(sum(SIZES)) % 2
    one, two = (ClassBatches(index, code, 6) for _ in range(2))
    drawn(one, 3)
    np.testing.assert_array_equal(one.draw(5, 7), two.draw(5, 7))
    assert (one.draw(5, 7) != one.draw(5, 8)).any()
    assert (one.draw(5, 7) != one.draw(6, 7)).any()
    batch = one.batch(5, 7)
    np.testing.assert_array_equal(batch.tiles, two.draw(5, 7))
    np.testing.assert_array_equal(batch.targets[0], code[batch.tiles])


def test_a_class_without_tiles_in_the_block_is_skipped(index):
    code = np.full(sum(SIZES), 3)
    code[:100] = 1
    counts = np.bincount(code[drawn(ClassBatches(index, code, 8), 1)])
    assert counts.tolist() == [0, 4, 0, 4]


def test_unreadable_tiles_have_no_class(index):
    source = ClassBatches(index, np.arange(sum(SIZES)) % 2, 4)
    batch = source.batch(0, 0)
    readable = np.array([True, False, True, True])
    left = source.without_unreadable(batch, readable, torch.zeros(0))
    assert left.targets[0].tolist() == np.where(readable, *batch.targets, -1).tolist()
    assert left.counts == {"unreadable_tiles": 1}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_loss_is_the_mean_over_known_classes(kind):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator).to(kind).requires_grad_()
    code = torch.tensor([0, 2, -1, 1, -1, 2])
    costs = [
        torch.logsumexp(row.float(), 0) - row[c].float()
        for row, c in zip(logits, code, strict=True)
        if c >= 0
    ]
    loss = ClassLoss()(logits, code)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.stack(costs).mean())
    loss.backward()
    assert not logits.grad[code < 0].any() and logits.grad[code >= 0].any()


def test_with_gamma_it_is_the_focal_loss_of_the_known():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    code = torch.tensor([0, -1, 2, 1, 0])
    share = logits.softmax(1)
    wanted = [
        -((1 - share[i, c]) ** 2) * share[i, c].log()
        for i, c in enumerate(code.tolist())
        if c >= 0
    ]
    found = ClassLoss(2.0)(logits, code)
    torch.testing.assert_close(found, torch.stack(wanted).mean())


def test_without_any_known_class_the_loss_is_zero():
    logits = torch.randn(4, 2, requires_grad=True)
    loss = ClassLoss()(logits, torch.full((4,), -1))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()
