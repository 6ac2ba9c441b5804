"""Paired comparisons of models."""

import dataclasses

import numpy as np
import pytest
from fixtures.predictions import predictions
from scipy.stats import norm

from mshisto_ray.config import InputError
from mshisto_ray.learning import estimates
from mshisto_ray.learning.comparison import compare, compare_all
from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.metrics import METRICS
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.statistics.delong import auroc_parts
from mshisto_ray.statistics.paired import holm


def test_comparison_of_a_model_with_itself_is_exactly_zero():
    p = predictions(repeats=2)
    assert compare(p, p).difference == Interval(0, 0, 0)


def test_comparison_is_paired_and_narrower_than_the_difference_of_intervals():
    base = predictions(num=200)
    close = dataclasses.replace(base, probabilities=base.probabilities.copy())
    # Worse on ten bags only: unpaired intervals of both overlap widely.
    wrong = np.flatnonzero(base.target == 1)[:10]
    close.probabilities[wrong] = [0.99, 0.01]
    found = compare(base, close)
    assert found.difference.low > 0
    assert found.first - found.second == pytest.approx(found.difference.value)
    one, two = intervals(base)["auroc"], intervals(close)["auroc"]
    assert two.high > one.low
    swapped = compare(close, base).difference
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx(
        (-found.difference.value, -found.difference.high, -found.difference.low)
    )


def test_rows_in_another_order_compare_the_same():
    one, two = predictions(seed=0), predictions(seed=1)
    order = np.random.default_rng(0).permutation(len(two))
    shuffled = two.take(order)
    first = compare(one, two)
    second = compare(one, shuffled)
    assert dataclasses.astuple(first.difference) == pytest.approx(
        dataclasses.astuple(second.difference)
    )


def test_other_bags_or_classes_are_refused():
    p = predictions()
    other = dataclasses.replace(p, bag=np.where(p.bag == "b3", "x", p.bag))
    with pytest.raises(InputError, match=r"different bags .*2 differ.*b3, x"):
        compare(p, other)
    with pytest.raises(InputError, match="different classes"):
        compare(p, predictions(classes=("no", "maybe")))
    with pytest.raises(InputError, match="no metric 'auc'"):
        compare(p, p, "auc")


def test_auroc_is_compared_by_the_covariance_of_delong():
    """Far from 0 and 1, with many patients: difference +- 1.96 standard errors."""
    one, two = predictions(num=3000, skill=0.6), predictions(num=3000, seed=1)
    found = compare(one, two)
    scores = np.stack([one.probabilities[:, 1], two.probabilities[:, 1]], 1)
    parts = auroc_parts(scores, one.target == 1, np.arange(3000), 3000)
    (a, b), (_, c) = parts.covariance()
    error, gap = (a + c - 2 * b) ** 0.5, parts.auroc[0, 0] - parts.auroc[0, 1]
    assert found.difference.value == pytest.approx(gap)
    ends = found.difference.low, found.difference.high
    assert ends == pytest.approx((gap - 1.96 * error, gap + 1.96 * error), abs=1e-3)
    assert found.p == pytest.approx(2 * norm.sf(abs(gap) / error), rel=0.2, abs=1e-12)


def test_other_metrics_are_compared_by_paired_replicates():
    one, two = predictions(num=500, skill=0.8), predictions(num=500, seed=1)
    drawn = [estimates.Estimates(p).replicates for p in (one, two)]
    for metric in ("accuracy", "pr_auc"):
        found = compare(one, two, metric).difference
        wanted = np.percentile(drawn[0][metric] - drawn[1][metric], (2.5, 97.5))
        assert (found.low, found.high) == pytest.approx(wanted, abs=8e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_two_models_that_are_always_right_may_still_differ(metric):
    one, two = predictions(num=40, skill=50), predictions(num=40, skill=60, seed=1)
    found = compare(one, two, metric)
    assert found.first == found.second == 1 and found.p == 1
    low = intervals(one)[metric].low
    assert found.difference.low == pytest.approx(low - 1)
    assert found.difference.high == pytest.approx(1 - low)


@pytest.mark.parametrize("metric", ["auroc", "accuracy"])
def test_p_is_below_5_percent_where_the_interval_excludes_0(metric):
    one = predictions(num=80, skill=1.5)
    for skill in (0.2, 0.6, 0.9, 1.2, 1.5):
        found = compare(one, predictions(num=80, skill=skill, seed=3), metric)
        excluded = found.difference.low > 0 or found.difference.high < 0
        assert excluded == (found.p < 0.05)


def test_several_comparisons_are_corrected_together():
    one = predictions(num=80, skill=1.5, repeats=2)
    others = [predictions(num=80, skill=s, seed=3, repeats=2) for s in (0.2, 1, 1.5)]
    found = compare_all(others, one)
    alone = [compare(other, one) for other in others]
    assert [c.p for c in found] == [c.p for c in alone]
    assert [c.p_holm for c in found] == list(holm(np.array([c.p for c in alone])))
    assert all(c.p == c.p_holm for c in alone)


def test_folds_that_learned_the_same_do_not_differ():
    one = predictions(num=200, skill=2)
    found = compare(one, predictions(num=200, skill=0, seed=1), "accuracy")
    assert found.p_folds < 0.05
    again = compare(one, predictions(num=200, skill=2, seed=1), "accuracy")
    assert again.p_folds > 0.05
    other = dataclasses.replace(one, fold=one.fold + 1)
    assert np.isnan(compare(one, other).p_folds)
