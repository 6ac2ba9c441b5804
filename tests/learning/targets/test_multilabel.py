import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import TargetConfig

LABELS = ("tp53", "rb1", "nf1")
EXAMPLES = [{"labels": LABELS}, {"labels": ("tp53", "rb1")}, {"labels": ("tp53",)}]


def cells(rng, num, keys):
    """A tenth of the cells is not known, but one of each row."""
    rows = []
    for _ in range(num):
        row = [str(int(rng.random() < 0.4)) for _ in keys["labels"]]
        for i in range(1, len(row)):
            row[i] = None if rng.random() < 0.15 else row[i]
        rows.append(tuple(row))
    return rows


def test_the_loss_of_a_label_that_is_not_known_is_none():
    target = TargetConfig(kind="multilabel", labels=LABELS).build()
    truth = np.array([[1, np.nan, 0], [np.nan, np.nan, 1]])
    outputs = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    fitted = target.fit(truth, LABELS)
    found = target.loss(outputs, fitted.encode(truth))
    for row, wanted, loss in zip(outputs.tolist(), truth, found, strict=True):
        total = 0.0
        for logit, value in zip(row, wanted, strict=True):
            if not np.isnan(value):
                p = 1 / (1 + math.exp(-logit))
                total -= math.log(p if value else 1 - p)
        assert loss.item() == pytest.approx(total / 3)
    found.sum().backward()
    assert (outputs.grad.numpy() == 0).tolist() == np.isnan(truth).tolist()


def test_metrics_are_of_known_labels():
    rng = np.random.default_rng(0)
    truth = (rng.random((50, 3)) < 0.4).astype(float)
    truth[rng.random((50, 3)) < 0.1] = np.nan
    values = rng.random((50, 3))
    target = TargetConfig(kind="multilabel", labels=LABELS).build()
    found = target.measure(values, truth, np.zeros(50))
    each = []
    for i, label in enumerate(LABELS):
        known = ~np.isnan(truth[:, i])
        each.append(roc_auc_score(truth[known, i], values[known, i]))
        assert found[f"auroc_{label}"][0] == pytest.approx(each[-1])
    assert found["auroc"][0] == pytest.approx(np.mean(each))


def test_a_label_of_one_value_does_not_count():
    truth = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0]], float)
    target = TargetConfig(kind="multilabel", labels=LABELS).build()
    found = target.measure(np.array([[0.5] * 3] * 3), truth, np.zeros(3))
    assert np.isnan(found["auroc_tp53"][0]) and found["auroc"][0] == 0.5


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [("1", "0"), ("2", "1")],
            r"tp53: 1 of 2 values are neither 1 nor 0: b \('2'\)",
        ),
        ([("1", "0"), ("0", "yes")], r"rb1: 1 of 2 values are neither 1 nor 0: b"),
        ([("1", "0"), ("1", "1")], "tp53: is only 1, so nothing can be learned"),
        ([(None, "0"), (None, "1")], "tp53: is never known"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(rows, said):
    target = TargetConfig(kind="multilabel", labels=("tp53", "rb1")).build()
    with pytest.raises(InputError, match=said):
        target.encode(rows, ["a", "b"], "bags")


def test_labels_are_distinct():
    with pytest.raises(ValueError, match="each label once"):
        TargetConfig(kind="multilabel", labels=("a", "a"))
    with pytest.raises(ValueError, match="at least 1"):
        TargetConfig(kind="multilabel", labels=())
