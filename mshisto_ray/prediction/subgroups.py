"""External metrics within each value of a column of the cohort, such as site or sex."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.decision.examination import Examination
from mshisto_ray.prediction.external_metrics import external_metrics
from mshisto_ray.prediction.unit import Bag
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.cohort import Cohort

_SMALL = 10
_NONE, _SEVERAL = "(none)", "(several)"
_COLUMNS = (
    "column", "value", "bags", "patients", "metric", "estimate", "low", "high",
)  # fmt: skip


@dataclass(frozen=True)
class Subgroup:
    """The labelled bags of one value of a column, and their metrics.

    ``value``: ``(none)`` where the cell is empty, ``(several)`` where a patient's
    slides differ; ``classes``: how many bags of each class, as text.
    """

    column: str
    value: str
    bags: int
    patients: int
    classes: str
    metrics: dict[str, Interval]

    @property
    def name(self) -> str:
        """``site=A``."""
        return f"{self.column}={self.value}"

    @property
    def line(self) -> str:
        """Size and AUROC, or accuracy where AUROC is not defined."""
        metric = "accuracy" if math.isnan(self.metrics["auroc"].value) else "auroc"
        found = self.metrics[metric]
        return (
            f"{self.name}: {self.bags} bags, {self.patients} patients "
            f"({self.classes}); {metric} {found.value:.3f} "
            f"[{found.low:.3f}, {found.high:.3f}]"
        )


def find_subgroups(
    cohort: Cohort,
    columns: Sequence[str],
    classes: tuple[str, ...],
    bags: Sequence[Bag],
    probabilities: np.ndarray,
    targets: np.ndarray,
    decisions: Examination | None = None,
) -> list[Subgroup]:
    """Every value of each column, the value with most patients first.

    Args:
        cohort: with the columns.
        columns: names of columns.
        classes: of the head.
        bags: N labelled bags.
        probabilities: [N, C].
        targets: class index of each bag, int [N].
        decisions: on these bags; their shares and errors become metrics too, by the
            names ``decision_...``.

    Raises:
        InputError: see ``Cohort.column``.
    """
    found = []
    for column in columns:
        values = np.array(_values(cohort, column, bags), dtype=object)
        groups = []
        for value in sorted(set(values)):
            rows = np.flatnonzero(values == value)
            own = [bags[row] for row in rows.tolist()]
            counts = np.bincount(targets[rows], minlength=len(classes))
            metrics, _ = external_metrics(
                classes, own, probabilities[rows], targets[rows]
            )
            if decisions is not None:
                mask = np.zeros(len(bags), bool)
                mask[rows] = True
                within = decisions.take(mask)
                each = {**within.shares, **within.errors}
                metrics |= {f"decision_{name}": ends for name, ends in each.items()}
            groups.append(
                Subgroup(
                    column,
                    value,
                    len(own),
                    len({bag.patient_id for bag in own}),
                    ", ".join(
                        f"{c!r} {n}" for c, n in zip(classes, counts, strict=True)
                    ),
                    metrics,
                )
            )
        found += sorted(groups, key=lambda group: -group.patients)
    return found


def small_groups(groups: Sequence[Subgroup]) -> list[str]:
    """A note that names the groups too small to say much, if there are any."""
    small = [f"{g.name} ({g.patients})" for g in groups if g.patients < _SMALL]
    if not small:
        return []
    return [f"subgroups of fewer than {_SMALL} patients say little: {', '.join(small)}"]


def subgroup_table(groups: Sequence[Subgroup]) -> str:
    """CSV, a row per group and metric; a number that is not defined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for group in groups:
        about = [group.column, group.value, group.bags, group.patients]
        for metric, found in group.metrics.items():
            numbers = (found.value, found.low, found.high)
            cells = ["" if math.isnan(v) else repr(float(v)) for v in numbers]
            writer.writerow([*about, metric, *cells])
    return text.getvalue()


def _values(cohort: Cohort, column: str, bags: Sequence[Bag]) -> list[str]:
    """The value of each bag."""
    of_slide = cohort.column(column)
    found = []
    for bag in bags:
        values = {of_slide[slide] for slide in bag.slide_ids}
        single = values.pop() if len(values) == 1 else _SEVERAL
        found.append(_NONE if single is None else single)
    return found
