"""Calibration, by scikit-learn, naive loops and known truths."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import _sigmoid_calibration
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from mshisto_ray.statistics.calibration import (
    brier_score,
    expected_calibration_error,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    reliability,
)


def binary(num=400, scale=3.0, shift=0.0, seed=0):
    """Probabilities whose logits are ``scale`` times the true ones, and targets."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=num)
    target = (rng.random(num) < expit(logit)).astype(int)
    second = expit(scale * logit + shift)
    return np.stack([1 - second, second], 1), target


def multiple(num=3000, scale=2.5, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (num, 4))
    true = softmax(logits, axis=1)
    target = (rng.random((num, 1)) > true.cumsum(1)).sum(1).clip(max=3)
    return softmax(scale * logits, axis=1), target, true


def naive_ece(probabilities, targets, bins):
    total = 0.0
    for index in range(bins):
        rows = []
        for i, row in enumerate(probabilities):
            top = max(row)
            if index / bins <= top < (index + 1) / bins or (
                top == 1 and index == bins - 1
            ):
                rows.append((top, np.argmax(row) == targets[i]))
        if rows:
            gap = sum(r[0] for r in rows) / len(rows) - sum(r[1] for r in rows) / len(
                rows
            )
            total += abs(gap) * len(rows) / len(targets)
    return total


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_ece_equals_a_loop(bins):
    for given, target in (binary(), multiple()[:2]):
        found = expected_calibration_error(given, target, bins)
        assert found == pytest.approx(naive_ece(given, target, bins))
    sure = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert expected_calibration_error(sure, np.array([1, 1])) == 0.5


def test_reliability_of_hand_made_bins():
    confidence = np.array([0.55, 0.58, 0.91, 0.95, 1.0])
    found = reliability(confidence, np.array([True, False, True, True, False]))
    assert found.number.tolist() == [2, 3]
    assert found.share == pytest.approx([1 / 2, 2 / 3])
    assert found.confidence == pytest.approx([0.565, (0.91 + 0.95 + 1) / 3])


def test_reliability_of_what_is_calibrated_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    given = rng.random(50_000)
    found = reliability(given, rng.random(50_000) < given)
    assert found.number.sum() == 50_000
    assert found.share == pytest.approx(found.confidence, abs=0.03)


def test_brier_is_that_of_scikit_learn_and_takes_weights():
    given, target = binary()
    found = brier_score(given, target)[0]
    assert found == pytest.approx(brier_score_loss(target, given[:, 1]))
    given, target, _ = multiple(200)
    whole = brier_score_loss(target, given, labels=range(4), scale_by_half=False)
    assert brier_score(given, target)[0] == pytest.approx(whole)
    counts = np.random.default_rng(0).integers(0, 3, (3, 200))
    index = np.repeat(np.arange(200), counts[1])
    drawn = brier_score(given[index], target[index])[0]
    assert brier_score(given, target, counts.astype(float))[1] == pytest.approx(drawn)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_temperature_finds_the_scale_of_the_logits(scale):
    given, target, true = multiple(scale=scale, num=20_000)
    found = fit_temperature(given, target)
    assert found.value == pytest.approx(scale, rel=0.05)
    assert found(given) == pytest.approx(true, abs=0.03)
    assert (found(given).argmax(1) == given.argmax(1)).all()


def test_temperature_has_the_least_loss_of_a_grid():
    given, target = binary(60, seed=4)
    found = fit_temperature(given, target)
    losses = [
        log_loss(target, type(found)(t)(given)) for t in np.geomspace(0.1, 15, 300)
    ]
    assert log_loss(target, found(given)) <= min(losses) + 1e-9


def test_temperature_stays_finite_where_every_row_is_right():
    given = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = fit_temperature(given, np.array([0, 1]))
    assert 0.05 <= found.value < 0.06
    assert np.isfinite(found(np.array([[1.0, 0.0]]))).all()


@pytest.mark.parametrize("seed", range(3))
def test_platt_is_that_of_scikit_learn(seed):
    given, target = binary(scale=2, shift=1, seed=seed)
    found = fit_platt(given, target)
    logit = np.log(given[:, 1] / given[:, 0])
    slope, offset = _sigmoid_calibration(logit, target)
    assert (found.slope, found.offset) == pytest.approx((-slope, -offset), rel=1e-3)
    assert brier_score(found(given), target)[0] < brier_score(given, target)[0]


def test_isotonic_is_that_of_scikit_learn():
    given, target = binary()
    other, _ = binary(seed=9)
    reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    reference.fit(given[:, 1], target)
    found = fit_isotonic(given, target)
    for values in (given, other):
        assert found(values)[:, 1] == pytest.approx(reference.predict(values[:, 1]))


def test_maps_fitted_on_other_patients_lower_the_error_on_new_ones():
    given, target = binary(2000, scale=3, shift=1, seed=1)
    new, truth = binary(2000, scale=3, shift=1, seed=2)
    before = expected_calibration_error(new, truth)
    for fit in (fit_temperature, fit_platt, fit_isotonic):
        assert expected_calibration_error(fit(given, target)(new), truth) < before
