"""Conformal sets: MAPIE with one row a patient, a naive search, coverage."""

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from mshisto_ray.statistics.conformal import ABSTAINS, fit_sets, report_sets


def draw(num, classes=3, rows=1, seed=0):
    """Probabilities, targets and patients, whose rows share most of their noise."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, num)
    counts = rng.integers(1, rows + 1, num)
    shared = rng.normal(0, 1, (num, classes)) + 1.5 * np.eye(classes)[target]
    patient = np.repeat(np.arange(num), counts)
    logits = shared[patient] + rng.normal(0, 0.5, (len(patient), classes))
    return softmax(logits, axis=1), target[patient], patient


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its probabilities."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.fitted_ = True
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return X.argmax(1)


@pytest.mark.parametrize("num", [30, 57, 200])
@pytest.mark.parametrize("missed", [0.05, 0.1, 0.3])
def test_sets_are_those_of_mapie_with_one_row_a_patient(num, missed):
    given, target, patient = draw(num)
    new, _, _ = draw(100, seed=1)
    reference = SplitConformalClassifier(
        Given().fit(given, target),
        confidence_level=1 - missed,
        conformity_score="lac",
        prefit=True,
    )
    reference.conformalize(given, target)
    _, sets = reference.predict_set(new)
    assert np.array_equal(fit_sets(given, target, patient, missed)(new), sets[:, :, 0])


@pytest.mark.parametrize("by_class", [False, True])
def test_the_limit_is_the_least_that_keeps_the_promise(by_class):
    given, target, patient = draw(60, rows=4)
    missed = 0.15
    found = fit_sets(given, target, patient, missed, by_class)
    for code in range(3):
        rows = np.flatnonzero(target == code) if by_class else np.arange(len(target))
        people = set(patient[rows])
        scores = 1 - given[rows, target[rows]]
        for limit in np.sort(scores):
            held = 0.0
            for person in people:
                own = patient[rows] == person
                held += (scores[own] <= limit).mean()
            if held >= (1 - missed) * (len(people) + 1) - 1e-9:
                break
        assert found.least[code] == pytest.approx(1 - limit)


def test_too_few_patients_promise_nothing_and_leave_no_class_out():
    given, target, patient = draw(8)
    found = fit_sets(given, target, patient, 0.1)
    assert found(given).all()
    assert (found.decide(given) == ABSTAINS).all()


@pytest.mark.parametrize(("rows", "by_class"), [(1, False), (4, False), (4, True)])
def test_new_patients_are_covered_as_promised(rows, by_class):
    covered = []
    for seed in range(400):
        given, target, patient = draw(90, rows=rows, seed=seed)
        first = patient < 60
        sets = fit_sets(given[first], target[first], patient[first], 0.1, by_class)(
            given[~first]
        )
        one = target[~first] == 0 if by_class else np.ones((~first).sum(), bool)
        # One row of each patient counts, as patients are the units.
        one &= np.r_[True, np.diff(patient[~first]) > 0]
        covered += sets[one, target[~first][one]].tolist()
    assert 0.89 <= np.mean(covered) <= 0.94


def test_a_report_of_sets():
    sets = np.array([[True, False], [True, True], [False, False], [False, True]])
    found = report_sets(sets, np.array([0, 1, 1, 0]))
    assert (found.rows, found.covered, found.decided) == (4, 0.5, 0.5)
    assert (found.right, found.size) == (0.5, 1.0)
    assert np.isnan(report_sets(sets[:0], np.array([], int)).covered)
