"""How well a model does: curves, confusion, metrics with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mshisto_ray.learning.intervals import METHOD
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.reporting.page import curves
from mshisto_ray.reporting.page.blocks import (
    Block,
    Figure,
    Figures,
    Table,
    Text,
)
from mshisto_ray.reporting.page.images import drawing
from mshisto_ray.statistics.bootstrap import Interval

METRIC_NAMES = {
    "auroc": "AUROC",
    "pr_auc": "PR-AUC (average precision)",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "f1": "F1",
}


def show_interval(interval: Interval) -> str:
    """``0.912 (0.850 to 0.951)``."""
    if math.isnan(interval.value):
        return "not defined"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def performance_blocks(
    predictions: Predictions, metrics: Mapping[str, Interval]
) -> list[Block]:
    """Curves, confusion and the table of metrics.

    Args:
        predictions: labelled bags; all rows of the same repeats.
        metrics: of them, as the job that predicted has computed them.
    """
    return [
        Text(_who(predictions)),
        Figures(_figures(predictions, metrics), 3),
        _metrics_table(predictions, metrics),
    ]


def _who(predictions: Predictions) -> str:
    names, repeats = predictions.classes, len(np.unique(predictions.repeat))
    first = predictions.repeat == predictions.repeat[0]
    counts = np.bincount(predictions.target[first], minlength=len(names))
    of = ", ".join(f"{n} {name!r}" for name, n in zip(names, counts, strict=True))
    patients = len(set(predictions.patient_id))
    text = f"{first.sum()} labelled bags of {patients} patients: {of}."
    if repeats > 1:
        text += f" {repeats} repeats: a thin line for each; counts are means over them."
    return text


def _figures(
    predictions: Predictions, metrics: Mapping[str, Interval]
) -> Sequence[Figure]:
    found = []
    if curves.has_both(predictions):
        of = _curves_of(predictions)
        for name, title, draw in (
            ("auroc", f"ROC {of}", curves.draw_roc),
            ("pr_auc", f"Precision and recall {of}", curves.draw_precision_recall),
        ):
            value = f"{METRIC_NAMES[name]} {show_interval(metrics[name])}"
            source = drawing(draw(predictions))
            found.append(Figure(source, f"{title}: {value}", f"{title}. {value}."))
    rule = (
        "predicted: the second class above p = 0.5"
        if len(predictions.classes) == 2
        else "predicted: the most probable class"
    )
    title = f"Confusion, number and share of each label; {rule}."
    drawn = drawing(curves.draw_confusion(predictions))
    return [*found, Figure(drawn, title, title)]


def _curves_of(predictions: Predictions) -> str:
    if len(predictions.classes) == 2:
        return f"of {predictions.classes[1]!r}"
    return "of each class against the rest"


def _metrics_table(predictions: Predictions, metrics: Mapping[str, Interval]) -> Table:
    if len(predictions.classes) == 2:
        about = f"Positive: {predictions.classes[1]!r}. "
    else:
        about = "Means over classes, each against the rest; of accuracy the share. "
    order = [name for name in METRIC_NAMES if name in metrics]
    rows = [
        [METRIC_NAMES.get(name, name), show_interval(metrics[name])]
        for name in [*order, *(n for n in metrics if n not in METRIC_NAMES)]
    ]
    return Table(["metric", "value (95 % interval)"], rows, caption=about + METHOD)
