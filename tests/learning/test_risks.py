"""Metrics of risks over folds and pooled, and their paired replicates."""

import numpy as np
import pytest
from fixtures.survival import draw_cohort

from mshisto_ray.learning.risks import RiskEstimates, Risks
from mshisto_ray.statistics.bootstrap import REPLICATES, SEED, draw_counts
from mshisto_ray.statistics.survival.concordance import harrell, uno
from mshisto_ray.statistics.survival.dynamic_auc import dynamic_auc


def draw_risks(num=80, folds=4, seed=0, noise=1.0):
    time, event, risk = draw_cohort(num, 3)
    risk = risk + np.random.default_rng(seed).normal(0, noise, num)
    patient = np.array([f"p{i:03}" for i in range(num)])
    return Risks(patient, (np.arange(num) % folds).astype(str), time, event, risk)


def test_values_are_the_mean_over_folds_and_of_all():
    r = draw_risks()
    found = RiskEstimates(r, (10.0,), until=30.0).values
    folds = [np.flatnonzero(r.fold == f) for f in np.unique(r.fold)]
    horizon = np.array([10.0])

    def measures(rows):
        data = r.time[rows], r.event[rows], r.risk[rows]
        one = harrell(*data)[0], uno(*data, until=30.0)[0]
        return [*one, dynamic_auc(*data, horizon)[0, 0]]

    names = ["c", "uno_c", "auc_10"]
    pooled = measures(np.arange(len(r.time)))
    means = np.mean([measures(rows) for rows in folds], axis=0)
    for name, whole, mean in zip(names, pooled, means, strict=True):
        assert found[name, "pooled"] == pytest.approx(whole)
        assert found[name, "folds"] == pytest.approx(mean)
    by_fold = RiskEstimates(r).by_fold("c")
    assert np.mean([*by_fold.values()]) == pytest.approx(found["c", "folds"])


def test_a_replicate_is_the_metric_of_the_patients_that_it_drew():
    r = draw_risks(40, folds=2)
    found = RiskEstimates(r).replicates
    counts = draw_counts(40, REPLICATES, np.random.default_rng(SEED))
    for replicate in (0, 17):
        index = np.repeat(np.arange(40), counts[replicate])
        drawn = r.time[index], r.event[index], r.risk[index]
        assert found["c", "pooled"][replicate] == pytest.approx(harrell(*drawn)[0])
        each = []
        for fold in ("0", "1"):
            own = index[r.fold[index] == fold]
            each.append(harrell(r.time[own], r.event[own], r.risk[own])[0])
        assert found["c", "folds"][replicate] == pytest.approx(np.mean(each))


def test_differences_are_paired():
    one, two = (RiskEstimates(draw_risks(seed=s, noise=0.1)) for s in (0, 1))
    gap = one.difference(two, "c", "pooled")
    ends = one.interval("c", "pooled"), two.interval("c", "pooled")
    assert gap.value == pytest.approx(ends[0].value - ends[1].value)
    assert gap.high - gap.low < 0.5 * (ends[0].high - ends[0].low)
    itself = one.difference(one, "c", "folds")
    assert (itself.value, itself.low, itself.high) == (0, 0, 0)


def test_a_patient_in_several_folds_is_drawn_once():
    r = draw_risks(30, folds=1)
    twice = Risks(
        r.patient.repeat(2), np.tile(["0", "1"], 30),
        *(x.repeat(2) for x in (r.time, r.event, r.risk)),
    )  # fmt: skip
    assert RiskEstimates(twice).replicates["c", "folds"] == pytest.approx(
        RiskEstimates(r).replicates["c", "folds"], nan_ok=True
    )
