"""The simulation of what is promised: a small run, and its published tables."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.jobs.benchmark import BENCHMARKS
from mshisto_ray.jobs.benchmarks import _permuted_sweep, _promises, guarantees

PUBLISHED = Path(__file__).parents[2] / "docs" / "results" / "guarantees.md"


def test_a_small_run_writes_its_tables(tmp_path):
    part = Part(
        name="guarantees", cohorts=2, drift_cohorts=2, replicates=20, permutations=1,
        points=2, refits=2,
    )  # fmt: skip
    found = components.build(BENCHMARKS, part)(tmp_path)
    assert len(found) == 8
    text = (tmp_path / guarantees.TABLES).read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    published = PUBLISHED.read_text().splitlines()
    assert set(headings) <= set(published)
    header = [x for x in text.splitlines() if x.startswith("| ") and "atients" in x]
    assert {line for line in header if not line[2].isdigit()} <= set(published)


def test_ridge_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(30, 5)), rng.integers(0, 2, 30)
    found = _permuted_sweep._ridge(values, labels, 3.0)
    model = Ridge(3.0, fit_intercept=False).fit(values, 2 * labels - 1)
    assert found == pytest.approx(model.coef_)


def test_a_point_tests_every_patient_once_and_never_trains_on_it():
    rng = np.random.default_rng(0)
    labels = np.arange(50) % 2
    sweep = [*_permuted_sweep._sweep(rng.normal(size=(50, 40)), labels, 2)]
    (values, given), (_, other) = sweep
    assert values.shape == (5,)
    assert ((values >= 0) & (values <= 1)).all()
    assert sorted(given.bag) == sorted(f"p{i}" for i in range(50))
    assert np.bincount(given.fold).tolist() == [10] * 5
    joined = _permuted_sweep._joined([given, other], np.array([0, 1, 0, 1, 1]))
    first = np.isin(given.fold, [0, 2])[:, None]
    wanted = np.where(first, given.probabilities, other.probabilities)
    assert np.array_equal(joined.probabilities, wanted)


def test_the_true_c_of_a_survival_cohort_without_skill_is_one_half():
    rows = _promises.concordance_rows(2, 20)
    assert float(rows[0].setting[0]) == pytest.approx(0.5, abs=0.02)
