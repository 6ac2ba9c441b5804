"""Thresholds and net benefit, by naive search and scikit-learn's ROC."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from mshisto_ray.statistics.thresholds import (
    for_sensitivity,
    for_specificity,
    net_benefit,
    youden,
)


def draw(num=80, seed=0, digits=None):
    rng = np.random.default_rng(seed)
    truth = rng.random(num) < 0.4
    scores = np.clip(0.5 + 0.15 * (truth - 0.5) + rng.normal(0, 0.15, num), 0, 1)
    return (scores if digits is None else scores.round(digits)), truth


def rates(scores, truth, threshold):
    called = scores >= threshold
    return called[truth].mean(), (~called)[~truth].mean()


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("seed", range(5))
def test_youden_is_the_best_of_the_roc_curve(seed, digits):
    scores, truth = draw(seed=seed, digits=digits)
    wrong, right, _ = roc_curve(truth, scores, drop_intermediate=False)
    found = rates(scores, truth, youden(scores, truth))
    assert sum(found) - 1 == pytest.approx((right - wrong).max())


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 1.0])
def test_wanted_rates_are_reached_and_no_more_is_given_away(wanted, digits):
    scores, truth = draw(digits=digits)
    wrong, right, _ = roc_curve(truth, scores, drop_intermediate=False)
    sensitivity, specificity = rates(
        scores, truth, for_sensitivity(scores, truth, wanted)
    )
    assert sensitivity >= wanted
    assert specificity == pytest.approx(1 - wrong[right >= wanted].min())
    sensitivity, specificity = rates(
        scores, truth, for_specificity(scores, truth, wanted)
    )
    assert specificity >= wanted
    assert sensitivity == pytest.approx(right[1 - wrong >= wanted - 1e-12].max())


def test_thresholds_lie_between_scores():
    scores, truth = np.array([0.1, 0.2, 0.6, 0.9]), np.array([False, False, True, True])
    assert youden(scores, truth) == pytest.approx(0.4)
    assert for_specificity(scores, truth, 1.0) == pytest.approx(0.4)


def test_net_benefit_equals_its_definition():
    scores, truth = draw()
    thresholds = np.array([0.1, 0.3, 0.6])
    found = net_benefit(scores, truth, thresholds)[0]
    for value, t in zip(found, thresholds, strict=True):
        right = sum(s >= t and y for s, y in zip(scores, truth, strict=True))
        wrong = sum(s >= t and not y for s, y in zip(scores, truth, strict=True))
        assert value == pytest.approx((right - wrong * t / (1 - t)) / 80)
    everyone = net_benefit(np.ones(80), truth, thresholds)[0]
    share = truth.mean()
    odds = thresholds / (1 - thresholds)
    assert everyone == pytest.approx(share - (1 - share) * odds)
    assert net_benefit(np.zeros(80), truth, thresholds)[0] == pytest.approx(0)
    counts = np.random.default_rng(0).integers(0, 3, (2, 80))
    index = np.repeat(np.arange(80), counts[1])
    drawn = net_benefit(scores[index], truth[index], thresholds)[0]
    weighted = net_benefit(scores, truth, thresholds, counts.astype(float))[1]
    assert weighted == pytest.approx(drawn)
