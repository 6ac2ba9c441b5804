"""Predictions whose target is not classes: their table and metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from mshisto_ray.config import InputError
from mshisto_ray.decision.reference import Drift
from mshisto_ray.learning.predictions import table_metadata
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.decisions import drift_column
from mshisto_ray.prediction.external_metrics import value_metrics
from mshisto_ray.prediction.unit import Bag
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.shards import write_shard


def write_values(
    path: Path,
    head: Head,
    cohort: Cohort,
    bags: list[Bag],
    values: np.ndarray,
    drift: Drift | None,
) -> dict[str, Interval]:
    """Write ``predictions.parquet`` of values [N, V]; return their metrics."""
    known, truth = later_truth(head, cohort, bags)
    place = np.full(len(bags), -1)
    place[known] = np.arange(len(known))
    rows = pa.array(place, pa.int32(), mask=place < 0)
    columns = identity_columns(bags)
    for name, column in head.kind.truth_columns(truth, head.classes).items():
        columns[name] = column.take(rows)
    columns |= no_fold(bags) | head.kind.value_columns(values, head.classes)
    columns |= drift_column(drift)
    about = table_metadata(head.kind, head.classes)
    write_shard(path, [pa.table(columns)], about)
    labelled = [bags[i] for i in known]
    return value_metrics(head, labelled, values[known], truth)


def later_truth(
    head: Head, cohort: Cohort, bags: list[Bag]
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the bags whose target the cohort has, and their truth.

    Raises:
        InputError: slides of one bag have different targets, or cells that cannot be
            used.
    """
    columns = head.kind.columns
    found = [cohort.find(column) is not None for column in columns]
    of_slide = [cohort.column(column) for column in columns if all(found)]
    cells = []
    for bag in bags:
        own = {tuple(column[s] for column in of_slide) for s in bag.slide_ids}
        if len(own) > 1:
            raise InputError(
                f"{cohort.path}: patient {bag.name!r} has slides with different "
                f"{', '.join(columns)}: give each patient one"
            )
        cells.append(own.pop() if all(found) else (None,) * len(columns))
    return head.kind.later(cells, [bag.name for bag in bags], head.classes)


def identity_columns(bags: list[Bag]) -> dict[str, pa.Array]:
    """``bag, slide_id, patient_id``."""
    return {
        "bag": pa.array([bag.name for bag in bags], pa.string()),
        "slide_id": pa.array([bag.slide_id for bag in bags], pa.string()),
        "patient_id": pa.array([bag.patient_id for bag in bags], pa.string()),
    }


def no_fold(bags: list[Bag]) -> dict[str, pa.Array]:
    """``fold, repeat``: null, as models of all folds are averaged."""
    nothing = pa.nulls(len(bags), pa.int32())
    return {"fold": nothing, "repeat": nothing}
