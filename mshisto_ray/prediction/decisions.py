"""What a head decides on predicted bags: columns, and how they do where labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.decision.examination import Examination, examine_calibrated
from mshisto_ray.decision.files import Decision
from mshisto_ray.decision.reference import Drift, find_drift
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.unit import Bag

CALIBRATED, DECISION, SET, ABSTAINS = "calibrated_", "decision", "set", "abstains"
DRIFT = "drift_p"


def decision_columns(
    head: Head, probabilities: np.ndarray, calibrated: np.ndarray
) -> dict[str, pa.Array]:
    """Columns beside the probabilities, of what the head was made to decide.

    ``calibrated_<class>`` with a calibration; ``decision``, the class at the threshold;
    ``set``, a list of classes, and ``abstains``, whether it has not exactly one, with a
    promised coverage. None of a head that decides nothing.

    Args:
        head: of classes.
        probabilities: [N, C].
        calibrated: the same after the calibration.
    """
    decision = head.decision
    if decision is None or decision.config.is_neutral:
        return {}
    rules, found = decision.rules, {}
    if rules.calibration:
        for name, column in zip(head.classes, calibrated.T, strict=True):
            found[CALIBRATED + name] = pa.array(np.ascontiguousarray(column))
    names = [head.classes[code] for code in rules.decide(calibrated)]
    found[DECISION] = pa.array(names, pa.string())
    if rules.sets:
        sets = rules.sets(probabilities)
        members = [
            [c for c, isin in zip(head.classes, row, strict=True) if isin]
            for row in sets
        ]
        found[SET] = pa.array(members, pa.list_(pa.string()))
        found[ABSTAINS] = pa.array(sets.sum(1) != 1)
    return found


def examine_predicted(
    decision: Decision, labelled: Predictions, calibrated: np.ndarray
) -> Examination:
    """How the frozen decisions do on labelled bags."""
    return examine_calibrated(labelled, calibrated, decision.rules)


def read_calibrated(path: Path, classes: Sequence[str], bags: Sequence[str]) -> Any:
    """Calibrated probabilities [N, C] of bags of ``predictions.parquet``, or None."""
    table = pq.read_table(path)
    columns = [CALIBRATED + name for name in classes]
    if not set(columns) <= set(table.column_names):
        return None
    place = {name: row for row, name in enumerate(table["bag"].to_pylist())}
    rows = np.array([place[bag] for bag in bags], np.int64)
    return np.stack([table[name].to_numpy()[rows] for name in columns], 1)


def drift_of(
    head: Head, bags: Sequence[Bag], shards: Mapping[str, Mapping[str, Any]]
) -> Drift | None:
    """Whether the patients of bags lie where those of training did.

    None where the head keeps no reference, or no patient is new.

    Args:
        head: that predicted them.
        bags: with a shard.
        shards: their metadata, by name.
    """
    reference = head.decision.reference if head.decision else None
    means = [shards[bag.name].get("embedding") for bag in bags]
    if reference is None or not bags or any(mean is None for mean in means):
        return None
    return find_drift(
        reference,
        [bag.patient_id for bag in bags],
        [len(bag.slide_ids) for bag in bags],
        np.array(means, np.float64),
        [bag.patient_id in head.folds for bag in bags],
    )


def drift_column(drift: Drift | None) -> dict[str, pa.Array]:
    """``drift_p``: of the bag's patient; null where it took part in training."""
    if drift is None:
        return {}
    return {DRIFT: pa.array(drift.p, pa.float64(), mask=np.isnan(drift.p))}
