"""The simulation of intervals: its cohorts are what they are said to be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mshisto_ray import components
from mshisto_ray.jobs.benchmarks import (
    _cohorts,
    _interval_tables,
    _interval_ways,
    intervals,
)
from mshisto_ray.jobs.benchmarks._cohorts import Setting, auroc_replicates, simulate
from mshisto_ray.learning.comparison import compare
from mshisto_ray.learning.intervals import intervals as of_metrics
from mshisto_ray.statistics.bootstrap import draw_counts

PUBLISHED = Path(__file__).parents[2] / "docs" / "results" / "intervals.md"


def made(setting, num=4, shifts=None):
    shifts = shifts or (setting.shift,)
    return simulate(setting, num, np.random.default_rng(0), shifts)


@pytest.mark.parametrize("spread", [1.0, 1.7])
def test_cohorts_have_the_auroc_and_the_slides_that_were_wanted(spread):
    setting = Setting(4000, 4, 0.3, 0.9, spread)
    cohorts = made(setting, 2)
    for scores in cohorts.scores[0].T:
        assert roc_auc_score(cohorts.truth, scores) == pytest.approx(0.9, abs=0.02)
    assert np.bincount(np.bincount(cohorts.patient)).tolist() == [0, 1000] + [1000] * 3
    positive = np.unique(cohorts.patient[cohorts.truth])
    assert len(positive) == setting.positive == 1200
    firsts = np.flatnonzero(np.diff(cohorts.patient, prepend=-1))
    several = firsts[np.bincount(cohorts.patient) > 1]
    negative = several[~cohorts.truth[several]]
    one, two = cohorts.scores[0, negative, 0], cohorts.scores[0, negative + 1, 0]
    assert np.corrcoef(one, two)[0, 1] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("agreement", [0.5, 0.98])
def test_scores_of_two_models_correlate_as_wanted(agreement):
    setting = Setting(4000, 1, 0.3, 0.9, agreement=agreement)
    cohorts = made(setting, 1, (setting.shift, 0.5))
    found = np.corrcoef(cohorts.scores[:, ~cohorts.truth, 0])[0, 1]
    assert found == pytest.approx(agreement, abs=0.05)


def test_accuracy_of_a_setting_is_that_of_a_large_cohort():
    setting = Setting(20_000, 1, 0.5, 0.9)
    cohorts = made(setting, 1)
    right = (cohorts.scores[0, :, 0] > setting.shift / 2) == cohorts.truth
    assert right.mean() == pytest.approx(setting.accuracy, abs=0.01)


def test_replicates_equal_a_naive_loop():
    cohorts = made(Setting(9, 4, 0.4, 0.8), 3)
    found = auroc_replicates(cohorts, 0, 20)
    counts = draw_counts(9, 20, np.random.default_rng(0))
    wanted = []
    for count in counts:
        rows = np.repeat(np.arange(len(cohorts.patient)), count[cohorts.patient])
        truth = cohorts.truth[rows]
        if 0 < truth.sum() < len(rows):
            scores = cohorts.scores[0, rows]
            wanted.append([roc_auc_score(truth, s) for s in scores.T])
    assert found == pytest.approx(np.transpose(wanted), abs=1e-6)


def test_the_ways_are_those_of_the_library():
    setting = Setting(30, 4, 0.4, 0.9)
    cohorts = made(replace(setting, agreement=0.9), 3, (setting.shift, 1.0))
    logits = cohorts.scores / 10  # a sigmoid keeps the order, and equal scores apart
    areas = _interval_ways.auroc_ways(cohorts, 10)["score"]
    gaps = _interval_ways.difference_ways(cohorts, 10)["score"]
    for place in range(3):
        one, two = (
            _interval_ways._predictions(cohorts, logits[model, :, place])
            for model in (0, 1)
        )
        found, gap = of_metrics(one)["auroc"], compare(one, two).difference
        assert (found.low, found.high) == pytest.approx([e[place] for e in areas])
        assert (gap.low, gap.high) == pytest.approx([e[place] for e in gaps])


def test_coverage_is_measured_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(intervals, "_PREVALENCES", (0.3,))
    monkeypatch.setattr(_interval_ways, "_LARGE", 2000)
    build = intervals.build(cohorts=40, whole=2, replicates=20, patients=(20,))
    found = build(tmp_path)
    ours, usual = (
        found[f"intervals.auroc.{way}.mean"]
        for way in ("score", "percentile_bootstrap")
    )
    assert ours.value > 0.9 > usual.value == ours.baseline
    text = (tmp_path / intervals.TABLES).read_text()
    assert "| 20 | 6 | one to four | 0.99 |" in text
    assert "| 0.95 - 0.92 | 0.98 |" in text
    assert "| pr_auc |" in text and _cohorts._WITHIN == 0.5


def test_the_published_table_is_of_the_defaults():
    text = PUBLISHED.read_text()
    build = components.schema("mshisto_ray.jobs.benchmarks", "intervals").model_fields
    cohorts, whole = (build[name].default for name in ("cohorts", "whole"))
    patients = ", ".join(map(str, build["patients"].default))
    about = _interval_tables._ABOUT.format(
        patients=patients, cohorts=cohorts, whole=whole
    )
    assert text.startswith(about)
    last = [line for line in text.splitlines() if line.startswith("| 200 | 100 |")]
    assert len(last) == 12, "six AUROCs, with one slide and with up to four"
