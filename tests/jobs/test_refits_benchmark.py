"""The simulation of intervals with refits: its truth, and its published table."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.components import Part
from mshisto_ray.jobs.benchmark import BENCHMARKS
from mshisto_ray.jobs.benchmarks import _refit_cohorts, refits
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.scoring import predict_values
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.statistics.bootstrap import Interval

PUBLISHED = Path(__file__).parents[2] / "docs" / "results" / "intervals.md"


@pytest.mark.parametrize("point", _refit_cohorts._POINTS)
def test_the_true_auroc_is_that_of_a_large_test_set(point):
    rng = np.random.default_rng(0)
    keys = {**_refit_cohorts._LINEAR, **_refit_cohorts._POINTS[point], "epochs": 5}
    config = configs.validate(ExperimentConfig, keys)

    def cohort(num):
        values, labels = rng.normal(size=(num, 10)), np.arange(num) % 2
        values[labels == 1, 0] += 1.5
        return _refit_cohorts._bags(values, labels)

    bags, large = cohort(60), cohort(6000)
    splits = plan_splits(bags, SplitConfig(), config)[:1]
    (model,) = cross_validate(bags, splits, config, _refit_cohorts._CPU).models
    batches = Batches(large, model.standardisation, _refit_cohorts._CPU)
    index = np.arange(len(large))
    given = predict_values(model.model, batches, index, large.kind, model.fitted)
    wanted = roc_auc_score(large.targets, given[:, 1])
    assert _refit_cohorts._true_auroc(model, 1.5) == pytest.approx(wanted, abs=0.02)


def test_coverage_is_counted():
    found = [
        _refit_cohorts.SweptCohort(
            Interval(0.7, 0.6, 0.8), Interval(0.7, 0.4, 0.9), true
        )
        for true in (0.85, 0.65, 0.85, 0.85)
    ]
    row = refits.Covered(40, 0.9, found)
    assert row.true == pytest.approx(0.8)
    assert (row.share_of_own("held"), row.share_of_own("wide")) == (0.25, 1)
    assert row.share("wide") == 1 and row.width("wide") == pytest.approx(0.5)


def test_a_small_run_has_the_header_that_is_published(tmp_path):
    part = Part(name="refits", cohorts=2, refits=2, patients=(30,), aurocs=(0.9,))
    found = components.build(BENCHMARKS, part)(tmp_path)
    assert len(found) == 4
    lines = (tmp_path / refits.TABLES).read_text().splitlines()
    assert lines[2].startswith("| 30 | 0.9 | .")
    assert lines[0] in PUBLISHED.read_text().splitlines()
