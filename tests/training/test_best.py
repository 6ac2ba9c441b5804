import pytest

from mshisto_ray.config import InputError
from mshisto_ray.training.best import Best


def test_best_follows_its_metric():
    best = Best("val_auc")
    values = [0.5, 0.4, float("nan"), 0.6, 0.6]
    taken = [best.improves({"val_auc": v, "loss": 1.0}) for v in values]
    assert taken == [True, False, False, True, False] and best.value == 0.6
    lower = Best("val_loss")
    assert [lower.improves({"val_loss": v}) for v in (3, 4, 2)] == [True, False, True]
    with pytest.raises(InputError, match="no metric 'val_auc'; there are loss"):
        Best("val_auc").improves({"loss": 1.0})
