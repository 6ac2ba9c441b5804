"""Curves go through the points that the metrics are areas of."""

import numpy as np
import pytest
from fixtures.predictions import predictions

from mshisto_ray.learning.metrics import classification_metrics
from mshisto_ray.reporting.page.curves import (
    confusion,
    draw_confusion,
    draw_precision_recall,
    draw_roc,
    precision_recall_points,
    roc_points,
)
from mshisto_ray.reporting.page.images import drawing


@pytest.fixture(params=[True, False], ids=["ties", "no ties"])
def one(request):
    found = predictions(num=50, skill=0.7)
    if request.param:
        found.probabilities[:] = found.probabilities.round(1)
    return found.probabilities[:, 1], found.target == 1, found


def test_the_areas_are_the_metrics(one):
    scores, truth, found = one
    two = np.stack([1 - scores, scores], 1)
    metrics = classification_metrics(two, found.target)
    false, true = roc_points(scores, truth)
    assert np.trapezoid(true, false) == pytest.approx(metrics["auroc"][0])
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    recall, precision = precision_recall_points(scores, truth)
    area = (np.diff(recall) * precision[1:]).sum()
    assert area == pytest.approx(metrics["pr_auc"][0])


def test_confusion_counts_bags_and_means_over_repeats():
    found = predictions(num=40, repeats=3, classes=("a", "b", "c"))
    counts = confusion(found)
    assert counts.sum() == pytest.approx(40)
    accuracy = (found.probabilities.argmax(1) == found.target).mean()
    assert np.trace(counts) / 40 == pytest.approx(accuracy)
    sizes = np.bincount(found.target[:40], minlength=3)
    assert counts.sum(1) == pytest.approx(sizes)


def test_names_of_classes_are_no_formulas():
    found = predictions(num=30, repeats=2, classes=("$x", "a_b$", "<b>"))
    for draw in (draw_roc, draw_precision_recall, draw_confusion):
        assert drawing(draw(found)).startswith("data:image/svg+xml;base64,")
