"""The warning "hardly trained", on models that learn and on those that cannot."""

import numpy as np
import torch

from mshisto_ray import config
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.targets.classes import ClassesTarget
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.optimiser import MILOptimiserConfig
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.fit.trained import hardly_trained, trained_share, undecided_share

CPU = torch.device("cpu")
CLASSES = ClassesTarget()


def train(bags, **keys):
    training = config.validate(TrainConfig, {"hidden": [16], **keys})
    splits = plan_splits(bags, SplitConfig(folds=3), training)
    return training, cross_validate(bags, splits, training, CPU)


def warnings(training, result):
    shares = trained_share(result.models, CLASSES), undecided_share(result.test)
    return hardly_trained(*shares, training.optimiser, CLASSES)


def test_the_defaults_train_every_fold_of_a_small_cohort(planted):
    training, result = train(planted(num=60, everywhere=True))
    assert trained_share(result.models, CLASSES) == 1 and not warnings(training, result)
    assert (result.test.probabilities.argmax(1) == result.test.target).mean() > 0.9


def test_a_rate_that_is_too_small_is_reported(planted):
    training, result = train(
        planted(num=60, everywhere=True), optimiser={"lr": 1e-6}, epochs=20
    )
    # A third of untrained networks is better than chance on so plain a shift.
    assert trained_share(result.models, CLASSES) < 1
    assert undecided_share(result.test) > 0.5
    (line,) = warnings(training, result)
    assert line.startswith("hardly trained: in 67% of the fold models")
    assert "optimiser.lr (now 1e-06)" in line and "of the test bags" in line


def test_models_without_validation_are_judged_as_well(planted):
    bags = planted(num=60, everywhere=True)
    _, slow = train(bags, early_stopping=None, epochs=2, optimiser={"lr": 1e-6})
    _, fast = train(bags, early_stopping=None, epochs=20)
    assert trained_share(slow.models, CLASSES) < 1
    assert trained_share(fast.models, CLASSES) == 1


def test_the_rate_chosen_by_width_is_named():
    (line,) = hardly_trained(0.8, np.nan, MILOptimiserConfig(), CLASSES)
    assert line.startswith("hardly trained: in 20% of the fold models")
    assert "optimiser.lr (now 0.1 / width)" in line
