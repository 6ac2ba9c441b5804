"""Fewer patients to learn from, the same test patients."""

import numpy as np
import pytest
import torch

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.predictions import read_predictions
from mshisto_ray.learning.retraining.learning_curve import (
    LearningCurveConfig,
    missing_sizes,
    read_curve,
    run_size,
    write_curve,
    write_patients,
)
from mshisto_ray.learning.retraining.thinning import check_sizes, thin_splits
from mshisto_ray.learning.target_split import GroupedSplitConfig
from mshisto_ray.mil import experiment_result
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.reporting.learning_curve import about_curve, curve_table, plot_curve

CPU = torch.device("cpu")
SPLIT = GroupedSplitConfig(folds=3)
CONFIG = configs.validate(
    ExperimentConfig,
    {
        "bags": "none.parquet",
        "pooling": {"name": "embedding_mean"},
        "hidden": [],
        "epochs": 3,
        "optimiser": {"lr": 0.05},
        "batch_size": 8,
        "early_stopping": None,
    },
)


def learned(bags, split):
    owner = np.array(bags.patient_ids)
    return {*owner[split.train], *owner[split.validation]}


def test_patients_are_left_out_whole_and_smaller_sizes_are_parts(planted):
    bags = planted(num=120, per_patient=2, empty=(7,))
    owner = np.array(bags.patient_ids)
    splits = plan_splits(bags, SPLIT, None)
    rows = bags.rows(SPLIT)
    half, quarter = (thin_splits(rows, splits, 0, s) for s in (0.5, 0.25))
    for whole, more, fewer in zip(splits, half, quarter, strict=True):
        np.testing.assert_array_equal(more.test, whole.test)
        assert set(more.train) <= set(whole.train)
        assert set(more.validation) <= set(whole.validation)
        assert learned(bags, fewer) < learned(bags, more)
        num = len(learned(bags, whole))
        assert len(learned(bags, more)) == pytest.approx(num / 2, abs=1)
        assert len(learned(bags, fewer)) == pytest.approx(num / 4, abs=1)
        kept = np.isin(owner[whole.train], owner[more.train])
        np.testing.assert_array_equal(np.sort(whole.train[kept]), np.sort(more.train))
    by_number = thin_splits(bags.rows(SPLIT), splits, 0, 20)
    assert {len(learned(bags, split)) for split in by_number} <= {19, 20, 21}


def test_every_size_has_what_the_target_needs(planted):
    bags = planted(num=60, classes=3)
    splits = plan_splits(bags, SPLIT, None)
    for split in thin_splits(bags.rows(SPLIT), splits, 0, 0.25):
        assert bags.targets is not None
        assert set(bags.targets[split.train]) == {0, 1, 2}
    with pytest.raises(InputError, match=r"size 0.02 leaves .*give larger sizes"):
        check_sizes(bags.rows(SPLIT), splits, 0, [0.02, 0.5])
    with pytest.raises(InputError, match=r"learns from 40 patients.*below 40; got 40"):
        check_sizes(bags.rows(SPLIT), splits, 0, [20, 40])
    with pytest.raises(InputError, match="both leave 20 patients"):
        check_sizes(bags.rows(SPLIT), splits, 0, [0.5, 20])


@pytest.mark.parametrize("sizes", [[0.5], [0.5, 0.5], [0.0, 0.5], [1, 20], [1.5, 0.5]])
def test_sizes_that_make_no_curve_are_refused(sizes):
    with pytest.raises(InputError, match="learning_curve"):
        configs.validate(LearningCurveConfig, {"learning_curve": sizes})


def test_the_curve_of_a_result(planted, tmp_path):
    bags = planted(num=60, everywhere=True)
    splits = plan_splits(bags, SPLIT, None)
    sizes = (0.25, 20)
    result = cross_validate(bags, splits, CONFIG, CPU)
    experiment_result.write_predictions(tmp_path / "predictions.parquet", result.test)
    assert read_curve(tmp_path, sizes, "auroc", CONFIG) is None
    write_patients(tmp_path, bags.rows(SPLIT), splits, 0, sizes)
    run_size(tmp_path, bags, splits, CONFIG, 0.25)
    assert missing_sizes(tmp_path, sizes) == [20]
    assert read_curve(tmp_path, sizes, "auroc", CONFIG) is None
    run_size(tmp_path, bags, splits, CONFIG, 20)
    curve = read_curve(tmp_path, sizes, "auroc", CONFIG)
    assert curve is not None
    assert curve.patients == pytest.approx((10, 20, 40), abs=1)
    thin = read_predictions(tmp_path / "learning_curve" / "0.25.parquet")
    thinner = thin_splits(bags.rows(SPLIT), splits, 0, 0.25)
    own = cross_validate(bags, thinner, CONFIG, CPU).test
    np.testing.assert_allclose(thin.probabilities, own.probabilities, atol=1e-6)
    for value, predictions in zip(curve.values[::2], (own, result.test), strict=True):
        assert value == pytest.approx(intervals(predictions)["auroc"], abs=1e-6)
    step = curve.values[-1].value - curve.values[-2].value
    assert curve.last.value == pytest.approx(step)
    assert curve.more == 40 and curve.gain.value >= 0
    plot_curve(tmp_path / "curve.png", curve)
    write_curve(tmp_path / "curve.csv", curve)
    assert (tmp_path / "curve.csv").read_text().startswith("patients,auroc,ci_low")
    assert "40 more would add" in about_curve(curve)
    assert len(curve_table(curve)) == 4
