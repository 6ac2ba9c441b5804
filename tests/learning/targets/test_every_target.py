"""The contract of every target."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from fixtures.parts import examples, held

from mshisto_ray.config import InputError
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.target_split import split_targets
from mshisto_ray.learning.targets import TARGETS, TargetConfig, restore_target

every = pytest.mark.parametrize("part", examples(TARGETS))
NUM = 60


def made(part, num=NUM):
    """Target, its encoded rows, and the rows' names, of random cells."""
    name, keys = part
    target = TargetConfig(kind=name, **keys).build()
    cells = held(TARGETS, name, "cells", None)(np.random.default_rng(0), num, keys)
    rows = [f"r{i}" for i in range(num)]
    return target, target.encode(cells, rows, "bags"), cells


def random_outputs(target, names, num):
    generator = torch.Generator().manual_seed(0)
    shape = num, target.num_outputs(names)
    outputs = torch.randn(shape, dtype=torch.float64, generator=generator)
    return torch.log_softmax(outputs, -1) if target.of_classes else outputs


def predicted(part):
    target, found, _ = made(part)
    fitted = target.fit(found.truth, found.names)
    outputs = random_outputs(target, found.names, len(found.truth))
    assert fitted.of_outputs or fitted.after(outputs, found.truth) is fitted
    fitted = fitted.after(outputs, found.truth)
    return target, found, fitted, outputs


@every
def test_a_row_without_a_target_is_left_out_with_a_note(part):
    target, found, cells = made(part)
    assert len(found.truth) == len(found.kept) == NUM and not found.notes
    cells[7] = (None,) * len(target.columns)
    rows = [f"r{i}" for i in range(NUM)]
    fewer = target.encode(cells, rows, "bags")
    assert fewer.kept.tolist() == [i for i in range(NUM) if i != 7]
    assert "1 of 60 bags left out" in fewer.notes[0] and "r7" in fewer.notes[0]
    kept, truth = target.later(cells, rows, fewer.names)
    assert kept.tolist() == fewer.kept.tolist()
    np.testing.assert_array_equal(truth, fewer.truth)


@every
def test_nothing_but_one_value_is_refused(part):
    target, _, cells = made(part)
    rows = [f"r{i}" for i in range(NUM)]
    with pytest.raises(InputError) as said:
        found = target.encode([cells[0]] * NUM, rows, "bags")
        target.strata(found.truth, found.names, 3)
    assert "\n" not in str(said.value)


@every
def test_settings_and_state_restore_it(part):
    target, found, fitted, outputs = predicted(part)
    again = restore_target(target.settings)
    assert again == target
    other = again.restore(fitted.state, found.names)
    np.testing.assert_array_equal(other.link(outputs), fitted.link(outputs))


@every
def test_the_gradient_of_the_loss_is_that_of_finite_differences(part):
    target, found, fitted, outputs = predicted(part)
    outputs, encoded = outputs[:12], fitted.encode(found.truth[:12])
    assert target.loss(outputs, encoded).shape == (12,)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda o: target.loss(o, encoded), (outputs,))
    for scale in (1e3, 1e-3):  # finite far away too
        far = (outputs.detach() * scale).requires_grad_()
        shown = torch.log_softmax(far, -1) if target.of_classes else far
        target.loss(shown, encoded).sum().backward()
        assert far.grad is not None and torch.isfinite(far.grad).all()


@every
def test_no_constant_prediction_has_a_smaller_loss_than_the_constant_loss(part):
    target, found, fitted, _ = predicted(part)
    encoded, weights = fitted.encode(found.truth), fitted.weights(found.truth)
    least = target.constant_loss(fitted, found.truth)
    constant = torch.zeros(target.num_outputs(found.names), dtype=torch.float64)
    constant.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [constant], max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        rows = constant.expand(len(found.truth), -1)
        rows = torch.log_softmax(rows, -1) if target.of_classes else rows
        each = target.loss(rows, encoded)
        loss = (each if weights is None else each * weights).mean()
        if loss.requires_grad:
            loss.backward()
        return loss

    optimiser.step(closure)
    reached = closure().item()
    # The shares are close to the best constant of the focal loss, and the mean to that
    # of Huber's.
    close = getattr(target, "focal", 0) or getattr(target, "loss_name", "") == "huber"
    slack = 0.1 * least if close else 1e-6
    assert least == pytest.approx(reached, abs=slack)


@every
def test_weights_count_rows_as_if_they_were_repeated(part):
    target, found, fitted, outputs = predicted(part)
    values, rng = fitted.link(outputs), np.random.default_rng(1)
    groups = np.arange(len(values)) % 3
    weights = rng.integers(0, 3, (4, len(values))).astype(float)
    together = target.measure(values, found.truth, groups, weights)
    assert list(together) == list(target.metric_names(found.names)) or set(
        together
    ) == set(target.metric_names(found.names))
    known = {group: fitted.measured_with for group in range(3) if fitted.measured_with}
    target = target.knowing(known)
    together = target.measure(values, found.truth, groups, weights)
    assert set(together) == set(target.metric_names(found.names))
    assert not known or set(together) == set(target.shown)
    for i, row in enumerate(weights):
        index = np.repeat(np.arange(len(values)), row.astype(int))
        alone = target.measure(values[index], found.truth[index], groups[index])
        for name, value in alone.items():
            assert together[name][i] == pytest.approx(value[0], abs=1e-9), name
    assert target.chooses in target.shown
    assert set(target.shown) <= set(target.titles)


@every
def test_columns_are_read_as_they_were_written(part):
    target, found, fitted, outputs = predicted(part)
    values = fitted.link(outputs)
    columns = target.truth_columns(found.truth, found.names)
    columns |= target.value_columns(values, found.names)
    truth, again = target.read(pa.table(columns), found.names)
    np.testing.assert_array_equal(truth, found.truth)
    np.testing.assert_array_equal(again, values)


@every
def test_votes_keep_the_shape_of_values(part):
    target, _, fitted, outputs = predicted(part)
    values = fitted.link(outputs)
    assert target.vote(values[:5]).shape == values[0].shape
    np.testing.assert_allclose(np.argmax(target.vote(values[:1])), np.argmax(values[0]))


@every
def test_every_bag_is_tested_once_and_folds_are_even(part):
    target, found, _ = made(part, 120)
    patients = [f"p{i // 2}" for i in range(120)]
    config = SplitConfig(folds=3)
    splits = split_targets(config, target, patients, found.truth, found.names)
    tested = np.concatenate([s.test for s in splits])
    assert sorted(tested.tolist()) == list(range(120))
    for split in splits:
        assert target.lack(found.truth[split.train], found.names, True) is None
        assert 34 <= len(split.test) <= 46
        parts = [{patients[i] for i in p} for p in (split.train, split.test)]
        assert not parts[0] & parts[1]


@every
def test_words_and_pictures(part):
    from matplotlib.figure import Figure

    target, found, fitted, outputs = predicted(part)
    assert target.describe(found.truth, found.names)
    assert target.title and target.explain(found.names)
    figure = Figure(figsize=(9, 3))
    values = fitted.link(outputs)
    assert target.draw(figure, values, found.truth, found.names)
    assert len(figure.axes) > 1
