"""Metrics of labelled bags that a head has never seen, also of one class alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.unit import Bag
from mshisto_ray.statistics.bootstrap import Interval

_UNDEFINED = Interval(math.nan, math.nan, math.nan)
# Where one class of two occurs: precision is then 1 or 0 whatever the model.
_OF_BOTH_CLASSES = ("precision", "f1", "auroc", "pr_auc")


def external_metrics(
    classes: tuple[str, ...],
    bags: Sequence[Bag],
    probabilities: np.ndarray,
    targets: np.ndarray,
) -> tuple[dict[str, Interval], list[str]]:
    """Return the metrics with intervals, and a note on those that are not defined.

    Those of ``learning.metrics`` and, of two classes, ``specificity`` (the recall of
    the first; ``recall`` is the sensitivity, that of the second). A metric is NaN
    where a class that it needs does not occur.

    Args:
        classes: of the head.
        bags: N labelled bags.
        probabilities: [N, C].
        targets: class index of each bag, int [N].
    """
    if not len(bags):
        return {}, []
    metrics = intervals(as_predictions(classes, bags, probabilities, targets))
    present = np.unique(targets)
    if len(classes) == 2:
        metrics["specificity"] = _specificity(classes, bags, probabilities, targets)
        if len(present) == 1:
            metrics |= dict.fromkeys(_OF_BOTH_CLASSES, _UNDEFINED)
    undefined = [name for name, found in metrics.items() if math.isnan(found.value)]
    if not undefined:
        return metrics, []
    absent = [name for i, name in enumerate(classes) if i not in present]
    return metrics, [
        f"{', '.join(undefined)}: not defined, as none of the {len(bags)} labelled "
        f"bags is of class {' or '.join(map(repr, absent))}"
    ]


def value_metrics(
    head: Head, bags: Sequence[Bag], values: np.ndarray, truth: np.ndarray
) -> dict[str, Interval]:
    """Metrics of bags whose target is not classes, with intervals; {} without any."""
    if not len(bags):
        return {}
    places = np.zeros(len(bags), np.int64)
    found = as_predictions(head.classes, bags, values, places)
    known = head.kind.of_another_cohort([model.fitted for model in head.models])
    models = {(0, 0): known} if known else {}
    return intervals(replace(found, target=truth, kind=head.kind, models=models))


def _specificity(
    classes: tuple[str, ...],
    bags: Sequence[Bag],
    probabilities: np.ndarray,
    targets: np.ndarray,
) -> Interval:
    """Return the share of the first class's bags that are predicted as such."""
    rows = np.flatnonzero(targets == 0)
    if not len(rows):
        return _UNDEFINED
    own = [bag for bag, code in zip(bags, targets, strict=True) if code == 0]
    chosen = as_predictions(classes, own, probabilities[rows], targets[rows])
    return intervals(chosen)["accuracy"]


def as_predictions(
    classes: tuple[str, ...],
    bags: Sequence[Bag],
    probabilities: np.ndarray,
    targets: np.ndarray,
) -> Predictions:
    """Bags and their probabilities as predictions of one fold and repeat."""

    def text(values: list) -> np.ndarray:
        return np.array(values, dtype=object)

    zeros = np.zeros(len(bags), np.int32)
    return Predictions(
        classes=classes,
        bag=text([bag.name for bag in bags]),
        slide_id=text([bag.slide_id for bag in bags]),
        patient_id=text([bag.patient_id for bag in bags]),
        target=np.asarray(targets, np.int64),
        fold=zeros,
        repeat=zeros,
        probabilities=probabilities,
    )
