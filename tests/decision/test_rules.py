"""Rules are those of the statistics, fitted on the rows that they may know."""

import json

import numpy as np
import pytest
from fixtures.predictions import predictions
from pydantic import ValidationError

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.rules import DecisionRules, fit_rules, fit_within_folds
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.statistics import thresholds
from mshisto_ray.statistics.calibration import fit_isotonic, fit_platt, fit_temperature
from mshisto_ray.statistics.conformal import fit_sets

FITS = {"temperature": fit_temperature, "platt": fit_platt, "isotonic": fit_isotonic}
NEW = np.stack([np.linspace(0.02, 0.98, 9), np.linspace(0.98, 0.02, 9)], 1)


def config(**keys):
    return configs.validate(DecisionConfig, keys)


def test_without_rules_the_most_probable_class_is_taken():
    rules = fit_rules(None, config())
    assert rules == DecisionRules()
    np.testing.assert_array_equal(rules.calibrated(NEW), NEW)
    np.testing.assert_array_equal(rules.decide(NEW), NEW.argmax(1))


@pytest.mark.parametrize("name", FITS)
def test_calibration_and_sets_are_those_of_the_statistics(name):
    given = predictions(num=80, per_patient=2)
    rules = fit_rules(given, config(calibration=name, coverage=0.8, by_class=True))
    expected = FITS[name](given.probabilities, given.target)(NEW)
    np.testing.assert_array_equal(rules.calibrated(NEW), expected)
    patients = given.patient_id.astype(str)
    sets = fit_sets(given.probabilities, given.target, patients, 0.2, True)
    np.testing.assert_allclose(rules.sets.least, sets.least)


@pytest.mark.parametrize("policy", ["youden", "sensitivity", "specificity"])
def test_the_threshold_is_of_the_calibrated_probability(policy):
    given = predictions(num=80)
    value = None if policy == "youden" else 0.9
    threshold = {"policy": policy, "value": value}
    rules = fit_rules(given, config(calibration="temperature", threshold=threshold))
    scores = rules.calibrated(given.probabilities)[:, 1]
    truth = given.target == 1
    expected = {
        "youden": lambda: thresholds.youden(scores, truth),
        "sensitivity": lambda: thresholds.for_sensitivity(scores, truth, 0.9),
        "specificity": lambda: thresholds.for_specificity(scores, truth, 0.9),
    }[policy]()
    assert rules.threshold == expected
    called = rules.decide(rules.calibrated(given.probabilities)) == 1
    np.testing.assert_array_equal(called, scores >= expected)


def test_a_fixed_threshold_needs_no_rows():
    rules = fit_rules(None, config(threshold={"policy": "fixed", "value": 0.2}))
    np.testing.assert_array_equal(rules.decide(NEW), NEW[:, 1] >= 0.2)


def test_a_fold_fits_on_its_own_validation_rows():
    given = predictions(num=100, repeats=2)
    models = np.array([[0, 1], [1, 3]])
    wanted = config(calibration="platt")
    found = fit_within_folds(given, wanted, models)
    assert set(found) == {(0, 1), (1, 3)}
    own = given.take((given.repeat == 1) & (given.fold == 3))
    assert found[1, 3] == fit_rules(own, wanted)


def test_a_threshold_without_a_class_is_a_half():
    given = predictions(num=40)
    rules = fit_rules(
        given.take(given.target == 0), config(threshold={"policy": "youden"})
    )
    assert rules.threshold == 0.5


@pytest.mark.parametrize("name", ["none", *FITS])
def test_the_state_is_json_and_gives_the_rules_back(name):
    # Nine patients are too few for 95 %: sets hold all classes, which is infinity.
    wanted = config(calibration=name, threshold={"policy": "youden"}, coverage=0.95)
    rules = fit_rules(predictions(num=9), wanted)
    back = DecisionRules.restore(json.loads(json.dumps(rules.state)))
    np.testing.assert_array_equal(back.calibrated(NEW), rules.calibrated(NEW))
    np.testing.assert_array_equal(back.sets(NEW), rules.sets(NEW))
    assert back.sets(NEW).all()
    assert back.threshold == rules.threshold


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"threshold": {"policy": "sensitivity"}}, "give the sensitivity wanted"),
        ({"threshold": {"policy": "youden", "value": 0.4}}, "youden takes none"),
        ({"threshold": {"policy": "best"}}, "policy"),
        ({"calibration": "beta"}, "temperature"),
        ({"coverage": 1.0}, "less than 1"),
    ],
)
def test_bad_values_are_named(keys, message):
    with pytest.raises((InputError, ValidationError), match=message):
        config(**keys)


def test_what_needs_two_classes_or_validation_is_refused():
    with pytest.raises(InputError, match="calibration=platt takes two classes"):
        config(calibration="platt").check_classes(["a", "b", "c"])
    with pytest.raises(InputError, match="threshold takes two classes"):
        config(threshold={"policy": "youden"}).check_classes(["a", "b", "c"])
    config(calibration="temperature", coverage=0.9).check_classes(["a", "b", "c"])
    with pytest.raises(InputError, match=r"split\.validation is 0"):
        config(coverage=0.9).check_validation(0, given=False)
    config(coverage=0.9).check_validation(0, given=True)
    config().check_validation(0, given=False)
    age = TargetConfig(kind="regression", column="age").build()
    with pytest.raises(ValueError, match=r"of classes, and target\.kind=regression"):
        config(coverage=0.9).check_target(age)
    config().check_target(age)
