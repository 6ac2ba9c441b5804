import math

import numpy as np
import pytest

from mshisto_ray.learning.class_labels import chance_loss
from mshisto_ray.learning.targets.classes import ClassesTarget
from mshisto_ray.mil.fit.config import EarlyStoppingConfig
from mshisto_ray.mil.fit.stopping import EarlyStopping


def watch(records, metric="loss", patience=2):
    """Number of the kept epoch, and of the last one."""
    stopping = EarlyStopping(
        EarlyStoppingConfig(metric=metric, patience=patience),
        math.log(2),
        ClassesTarget(),
    )
    for epoch, (bag_loss, val_loss, val_auroc) in enumerate(records, start=1):
        record = {"bag_loss": bag_loss, "val_loss": val_loss, "val_auroc": val_auroc}
        if not stopping.improves(epoch, record) and stopping.is_over(epoch):
            return stopping.kept, epoch
    return stopping.kept, len(records)


def test_chance_is_the_entropy_of_the_shares():
    assert chance_loss(np.array([0, 1])) == pytest.approx(math.log(2))
    quarter = chance_loss(np.array([0, 0, 0, 2]))
    assert quarter == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_epochs_count_whose_training_loss_has_fallen():
    slow = [(0.69, 0.60, 0.5)] * 5 + [(0.62, 0.70, 0.5), (0.5, 0.65, 0.6)]
    assert watch(slow) == (7, 7)
    assert watch([*slow, (0.7, 0.3, 0.9), (0.4, 0.64, 0.7)]) == (9, 9)
    assert watch([*slow, (0.4, 0.66, 0.7), (0.3, 0.67, 0.7), (0.2, 0.1, 1)]) == (7, 9)


def test_training_that_never_begins_keeps_no_epoch():
    assert watch([(0.69, 0.69, 0.5)] * 30) == (0, 30)


def test_of_equal_aurocs_the_smaller_loss_is_better():
    same = [(0.5, 0.5, 1.0), (0.4, 0.4, 1.0), (0.3, 0.3, 1.0), (0.2, 0.35, 1.0)]
    assert watch(same, "auroc") == (3, 4)
    assert watch([*same, (0.2, 0.36, 1.0)], "auroc") == (3, 5)


def test_an_undefined_auroc_is_never_the_best():
    assert watch([(0.5, 0.5, math.nan), (0.4, 0.6, 0.2)], "auroc") == (2, 2)
