"""Examined decisions against counts and loops."""

import numpy as np
import pytest
from fixtures.predictions import predictions

from mshisto_ray import config as configs
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.examination import (
    CURVE,
    examine,
    examine_within_folds,
)
from mshisto_ray.decision.rules import DecisionRules, fit_rules, fit_within_folds
from mshisto_ray.statistics.calibration import brier_score
from mshisto_ray.statistics.conformal import ConformalSets

WANTED = configs.validate(
    DecisionConfig,
    {"calibration": "platt", "threshold": {"policy": "youden"}, "coverage": 0.8},
)


def test_shares_are_counts():
    given = predictions(num=120, per_patient=2)
    sets = ConformalSets(np.array([0.4, 0.4]))
    found = examine(given, DecisionRules(None, 0.3, sets))
    called, truth = given.probabilities[:, 1] >= 0.3, given.target == 1
    shares = found.shares
    assert shares["sensitivity"].value == pytest.approx(called[truth].mean())
    assert shares["specificity"].value == pytest.approx((~called)[~truth].mean())
    members = given.probabilities >= 0.4
    holds = members[np.arange(len(truth)), given.target]
    single = members.sum(1) == 1
    assert shares["covered"].value == pytest.approx(holds.mean())
    assert shares["covered_yes"].value == pytest.approx(holds[truth].mean())
    assert shares["decided"].value == pytest.approx(single.mean())
    assert shares["right"].value == pytest.approx(holds[single].mean())
    for share in shares.values():
        assert share.low < share.value < share.high
    assert found.observed.value == pytest.approx(truth.mean())


def test_errors_are_of_both_probabilities():
    given = predictions(num=200, skill=2.0)
    found = examine(given, fit_rules(given, WANTED))
    brier = brier_score(given.probabilities, given.target)[0]
    assert found.errors["brier"].value == brier
    assert found.errors["brier"].low < brier < found.errors["brier"].high
    after = found.errors["brier_calibrated"].value
    assert after == brier_score(found.calibrated, given.target)[0] < brier
    bins = np.minimum((given.probabilities[:, 1] * 10).astype(int), 9)
    gaps = [
        abs((given.probabilities[:, 1] - given.target)[bins == i].sum())
        for i in range(10)
    ]
    assert found.errors["ece"].value == pytest.approx(sum(gaps) / len(given))
    assert np.isnan(found.errors["ece"].low)
    assert "brier_calibrated" not in examine(given, DecisionRules()).errors


def test_within_folds_each_row_has_the_rules_of_its_model():
    validation, test = predictions(num=150, seed=1), predictions(num=150, seed=2)
    models = np.unique(np.stack([test.repeat, test.fold], 1), axis=0)
    rules = fit_within_folds(validation, WANTED, models)
    found = examine_within_folds(test, rules)
    for row in range(0, len(test), 7):
        own = rules[int(test.repeat[row]), int(test.fold[row])]
        one = test.take(np.array([row]))
        alone = examine(one, own)
        np.testing.assert_array_equal(found.calibrated[row], alone.calibrated[0])
        np.testing.assert_array_equal(found.sets[row], alone.sets[0])
        assert found.decided[row] == alone.decided[0]


def test_net_benefit_of_treating_all_and_its_interval():
    given = predictions(num=100)
    found = examine(given, DecisionRules())
    value, low, high = found.benefit(given.probabilities)
    assert (low <= value).all() and (value <= high).all()
    share = (given.target == 1).mean()
    odds = CURVE / (1 - CURVE)
    np.testing.assert_allclose(found.treat_all, share - (1 - share) * odds, atol=1e-12)


def test_a_part_of_the_bags_and_of_one_class():
    given = predictions(num=60)
    found = examine(given, DecisionRules(sets=ConformalSets(np.array([0.2, 0.2]))))
    part = found.take(given.target == 1)
    assert len(part.raw) == len(part.sets) == (given.target == 1).sum()
    assert np.isnan(part.shares["specificity"].value)
    three = predictions(num=60, classes=("a", "b", "c"))
    assert set(examine(three, DecisionRules()).shares) == {"accuracy"}
