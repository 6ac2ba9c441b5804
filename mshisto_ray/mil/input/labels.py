"""Labels of slides or bags: which rows have one, and whether folds can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.labelled import LabelledRows, numbered
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.learning.target_split import split_targets
from mshisto_ray.learning.targets import Target, TargetConfig
from mshisto_ray.mil.input.source import BagRow, cohort_rows
from mshisto_ray.store.cohort import Cohort


class LabelledBags(Protocol):
    """What folds are checked against: see ``Bags``, of which it is a part."""

    @property
    def kind(self) -> Target:
        """The target."""
        ...

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """Of each bag."""
        ...

    @property
    def targets(self) -> np.ndarray | None:
        """Of each bag."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that the target resolves."""
        ...


@dataclass(frozen=True)
class CohortBags:
    """The labelled bags that training on a cohort will have, before any slide is read.

    ``slides``: of each bag; ``targets``, ``classes``, ``patient_ids``: as of ``Bags``;
    ``splits``: of all these bags, whether they will have tiles or not.
    """

    kind: Target
    slides: tuple[tuple[str, ...], ...]
    patient_ids: tuple[str, ...]
    targets: np.ndarray
    classes: tuple[str, ...]
    splits: list[Split]

    @property
    def rows(self) -> LabelledRows:
        """The bags; whether they will have tiles is not known."""
        patients, usable = numbered(self.patient_ids), np.ones(len(self.slides), bool)
        given = patients, patients, usable
        return LabelledRows(self.kind, self.targets, self.classes, *given)


def split_cohort(
    cohort: Cohort, target: TargetConfig, split: SplitConfig, unit: str
) -> CohortBags:
    """The bags of a cohort and the splits that training will draw.

    Slides that turn out to have no tiles may leave a part too small later: see
    ``splits.keep_usable``.

    Raises:
        InputError: labels or folds cannot be used.
    """
    kind = target.build()
    columns = (*kind.columns, *((split.together,) if split.together else ()))
    rows, has_fold = cohort_rows(cohort, {}, columns, split.column)
    rows = with_groups(rows, split.together)
    rows, truth, names = labelled(rows, kind, "slides", [])
    groups = by_patient(rows) if unit == "patient" else [[row] for row in rows]
    first = [group[0] for group in groups]
    patients = tuple(row.patient_id for row in first)
    targets = of_rows(first, rows, truth)
    splits = split_targets(
        split,
        kind,
        patients,
        targets,
        names,
        [row.fold for row in first] if has_fold else None,
        [row.group for row in first],
    )
    slides = tuple(tuple(row.name for row in group) for group in groups)
    return CohortBags(kind, slides, patients, targets, names, splits)


def with_groups(rows: list[BagRow], group: str | None) -> list[BagRow]:
    """Rows whose group was read as the last cell of their label; None: no group."""
    if group is None:
        return rows
    return [replace(row, label=row.label[:-1], group=row.label[-1]) for row in rows]


def labelled(
    rows: list[BagRow], target: Target, what: str, notes: list[str]
) -> tuple[list[BagRow], np.ndarray, tuple[str, ...]]:
    """Rows that have a target, their targets, and the names that it resolves.

    Args:
        rows: slides or bags.
        target: what is predicted.
        what: the noun for rows in messages.
        notes: gets a line for each reason to leave rows out.

    Raises:
        InputError: see ``Target.encode``.
    """
    found = target.encode([row.label for row in rows], [r.name for r in rows], what)
    notes += found.notes
    return [rows[i] for i in found.kept], found.truth, found.names


def of_rows(
    chosen: Sequence[BagRow], rows: Sequence[BagRow], truth: np.ndarray
) -> np.ndarray:
    """The targets of some of the ``rows``."""
    place = {row.name: i for i, row in enumerate(rows)}
    return truth[np.array([place[row.name] for row in chosen], np.int64)]


def by_patient(rows: Sequence[BagRow]) -> list[list[BagRow]]:
    """Rows of each patient.

    Raises:
        InputError: a patient with two labels or two folds.
    """
    groups: dict[str, list[BagRow]] = {}
    for row in rows:
        groups.setdefault(row.patient_id, []).append(row)
    for key in ("label", "fold", "group"):
        mixed = [
            f"{name!r} ({', '.join(sorted(_words(getattr(r, key)) for r in group))})"
            for name, group in groups.items()
            if len({getattr(row, key) for row in group}) > 1
        ]
        if mixed:
            raise InputError(
                f"unit: patient, but {len(mixed)} patients have slides with different "
                f"{key}s: {'; '.join(mixed[:3])}; give each patient one {key}, or use "
                "unit: slide"
            )
    return list(groups.values())


def _words(cells: str | tuple[str | None, ...] | None) -> str:
    return " ".join(map(str, cells)) if isinstance(cells, tuple) else str(cells)
