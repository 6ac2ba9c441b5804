"""Intervals of metrics, and the estimates that they are made of."""

import dataclasses

import numpy as np
import pytest
from fixtures.predictions import predictions
from sklearn.metrics import roc_auc_score

from mshisto_ray.learning import estimates
from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.metrics import METRICS, classification_metrics


def naive_replicates(p, metric):
    """Row by row: draw patients, gather their rows, score each repeat, average."""
    names = sorted(set(p.patient_id))
    drawn = np.random.default_rng(0).integers(0, len(names), (200, len(names)))
    values = []
    for draw in drawn:
        per_repeat = []
        for repeat in sorted(set(p.repeat)):
            rows = [
                i
                for j in draw
                for i in np.flatnonzero(
                    (p.patient_id == names[j]) & (p.repeat == repeat)
                )
            ]
            found = classification_metrics(p.probabilities[rows], p.target[rows])
            per_repeat.append(found[metric][0])
        values.append(np.mean(per_repeat))
    return np.array(values)


@pytest.mark.parametrize("metric", ["auroc", "f1"])
def test_replicates_equal_a_naive_loop(monkeypatch, metric):
    p = predictions(num=25, per_patient=2, repeats=2)
    monkeypatch.setattr(estimates, "REPLICATES", 200)
    monkeypatch.setattr(estimates, "_CHUNK_BYTES", 8 * 50 * 7)
    found = Estimates(p)
    wanted = naive_replicates(p, metric)
    assert found.replicates[metric] == pytest.approx(wanted, abs=1e-12)
    per_repeat = [
        classification_metrics(
            p.probabilities[p.repeat == r], p.target[p.repeat == r]
        )[metric][0]
        for r in (0, 1)
    ]  # fmt: skip
    assert found.values[metric] == pytest.approx(np.mean(per_repeat), abs=1e-12)
    if metric == "f1":
        variance, degrees = found.variance("f1")
        assert variance == pytest.approx(wanted.var(ddof=1) * (degrees + 1) / degrees)


def test_the_variance_of_auroc_is_near_that_of_replicates():
    for classes, repeats in ((("no", "yes"), 1), (("a", "b", "c"), 2)):
        p = predictions(num=150, per_patient=2, repeats=repeats, classes=classes)
        found = Estimates(p)
        drawn = found.replicates["auroc"].var()
        assert found.variance("auroc")[0] == pytest.approx(drawn, rel=0.15)
        assert found.areas.auroc.mean() == pytest.approx(found.values["auroc"])


def test_points_are_those_of_scikit_learn():
    p = predictions(repeats=2)
    areas = [
        roc_auc_score(p.target[p.repeat == r], p.probabilities[p.repeat == r, 1])
        for r in (0, 1)
    ]
    assert intervals(p)["auroc"].value == pytest.approx(np.mean(areas))


def test_patients_not_rows_are_counted():
    """Ten equal rows a patient carry no more evidence than one."""
    one, ten = predictions(per_patient=1), predictions(per_patient=10)
    for name in METRICS:
        single, many = intervals(one)[name], intervals(ten)[name]
        assert dataclasses.astuple(many) == pytest.approx(dataclasses.astuple(single))


def test_interval_width_falls_with_the_root_of_patients_and_covers_the_value():
    small = intervals(predictions(num=100))["auroc"]
    large = intervals(predictions(num=1600))["auroc"]
    ratio = (small.high - small.low) / (large.high - large.low)
    assert 3 < ratio < 5.3
    assert large.low < large.value < large.high


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c")])
def test_a_metric_of_1_has_an_interval_that_falls_with_patients(classes):
    low = {}
    for num in (20, 40, 200):
        found = intervals(predictions(num=num, skill=99, classes=classes))
        assert all((found[m].value, found[m].high) == (1, 1) for m in METRICS)
        low[num] = {name: found[name].low for name in METRICS}
    for name in METRICS:
        assert 0.4 < low[20][name] < low[40][name] < low[200][name] < 1
    # Of 40 patients without a failure, 1 - 3 / 40 is within reach ("rule of three").
    assert low[40]["accuracy"] == pytest.approx(40 / (40 + 1.96**2), abs=1e-3)


def test_two_slides_of_a_patient_are_no_new_patients_at_1():
    one = intervals(predictions(num=40, skill=99))
    two = intervals(predictions(num=40, skill=99, per_patient=2))
    for name in METRICS:
        assert two[name].low == pytest.approx(one[name].low)


def test_intervals_are_the_same_every_time():
    p = predictions(classes=("a", "b", "c"))
    assert intervals(p) == intervals(p)


def test_a_metric_without_a_value_has_no_interval():
    p = predictions()
    alone = dataclasses.replace(p, target=np.zeros(len(p), int))
    found = intervals(alone)
    assert np.isnan(dataclasses.astuple(found["auroc"])).all()
    assert found["accuracy"].low <= found["accuracy"].value


def test_precision_of_a_class_that_is_never_predicted_says_nothing():
    p = predictions()
    never = dataclasses.replace(p, probabilities=np.tile([0.9, 0.1], (len(p), 1)))
    found = intervals(never)
    assert dataclasses.astuple(found["precision"]) == (0, 0, 1)
    # A constant has an AUROC of .5 whatever the patients.
    assert dataclasses.astuple(found["auroc"]) == (0.5, 0.5, 0.5)


def test_one_patient_leaves_nearly_everything_open():
    p = predictions(num=1, per_patient=4, skill=99)
    found = intervals(p)["accuracy"]
    assert found.high == 1 and found.low < 0.25
