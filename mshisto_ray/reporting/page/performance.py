"""How well a model does: curves, confusion, metrics with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

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
    of = predictions.kind.describe(predictions.target[first], names)
    if predictions.kind.of_classes:
        counts = np.bincount(predictions.target[first], minlength=len(names))
        of = ", ".join(f"{n} {name!r}" for name, n in zip(names, counts, strict=True))
    patients = len(set(predictions.patient_id))
    text = (
        f"{first.sum()} labelled {predictions.kind.noun}s of {patients} patients: {of}."
    )
    if repeats > 1:
        text += f" {repeats} repeats: a thin line for each; counts are means over them."
    return text


def _figures(
    predictions: Predictions, metrics: Mapping[str, Interval]
) -> Sequence[Figure]:
    if not predictions.kind.of_classes:
        return [_drawn(predictions)]
    found, titles = [], predictions.kind.titles
    if curves.has_both(predictions):
        of = _curves_of(predictions)
        for name, title, draw in (
            ("auroc", f"ROC {of}", curves.draw_roc),
            ("pr_auc", f"Precision and recall {of}", curves.draw_precision_recall),
        ):
            value = f"{titles[name]} {show_interval(metrics[name])}"
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


def _drawn(predictions: Predictions) -> Figure:
    """The picture that the target itself draws."""
    figure = Canvas(figsize=(9, 3.4), layout="constrained")
    given = predictions.probabilities, predictions.target, predictions.classes
    title = predictions.kind.draw(figure, *given)
    return Figure(drawing(figure), title, f"{title}.")


def _curves_of(predictions: Predictions) -> str:
    if len(predictions.classes) == 2:
        return f"of {predictions.classes[1]!r}"
    return "of each class against the rest"


def _metrics_table(predictions: Predictions, metrics: Mapping[str, Interval]) -> Table:
    kind = predictions.kind
    if not kind.of_classes:
        about = ""
    elif len(predictions.classes) == 2:
        about = f"Positive: {predictions.classes[1]!r}. "
    else:
        about = "Means over classes, each against the rest; of accuracy the share. "
    order = [name for name in kind.titles if name in metrics]
    rows = [
        [kind.titles.get(name, name), show_interval(metrics[name])]
        for name in [*order, *(n for n in metrics if n not in kind.titles)]
    ]
    return Table(
        ["metric", "value (95 % interval)"],
        rows,
        caption=about + kind.interval_method,
    )
