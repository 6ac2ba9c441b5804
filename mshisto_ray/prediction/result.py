"""Result of a prediction: the table of bags, metrics, groups."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mshisto_ray.decision.examination import Examination
from mshisto_ray.decision.reference import Drift
from mshisto_ray.learning.metrics import decide
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.decisions import (
    decision_columns,
    drift_column,
    drift_of,
    examine_predicted,
)
from mshisto_ray.prediction.external_metrics import as_predictions, external_metrics
from mshisto_ray.prediction.labels import find_targets, unknown_labels
from mshisto_ray.prediction.localisation import localise
from mshisto_ray.prediction.subgroups import (
    Subgroup,
    find_subgroups,
    small_groups,
    subgroup_table,
)
from mshisto_ray.prediction.unit import Bag, shard_path
from mshisto_ray.prediction.values import (
    identity_columns,
    later_truth,
    no_fold,
    write_values,
)
from mshisto_ray.progress import check_failures
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.manifest import write_text
from mshisto_ray.store.shards import read_metadata, write_shard

PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"
SUBGROUPS = "subgroups.csv"


@dataclass(frozen=True)
class PredictionSummary:
    """Counts, ``metrics`` of external bags and of ``subgroups``, ``notes``: lines.

    ``drift``: of new patients; ``decisions``: on labelled bags, None without any.
    """

    num_predicted: int
    num_labelled: int
    metrics: dict[str, Interval]
    subgroups: list[Subgroup]
    notes: list[str]
    drift: Drift | None = None
    decisions: Examination | None = None


def write_result(
    out: Path,
    head: Head,
    cohort: Cohort,
    bags: list[Bag],
    tiles: Path | None,
    annotation: str | None,
    subgroups: Sequence[str] = (),
) -> PredictionSummary:
    """Write ``predictions.parquet``, ``metrics.json`` and ``subgroups.csv``.

    Metrics of labels where the cohort has them, and of localisation where the tiles
    are annotated (see ``evaluation.localisation``).

    Args:
        out: directory with one shard per bag.
        head: that predicted them.
        cohort: with or without labels.
        bags: of the cohort.
        tiles: directory of the slides' tiles, None where none was given.
        annotation: class of annotation; None: the only one.
        subgroups: columns of the cohort; without any no file is written.
    """
    found = _shards(out, bags)
    predicted = find_predicted(out, bags)
    if not predicted:
        check_failures(len(bags), len(bags), 0.0)
    probabilities = np.array([found[bag.name]["probabilities"] for bag in predicted])
    drift = drift_of(head, predicted, found)
    if not head.kind.of_classes:
        metrics = write_values(
            out / PREDICTIONS, head, cohort, predicted, probabilities, drift
        )
        _write_metrics(out, metrics)
        num = len(later_truth(head, cohort, predicted)[0])
        return PredictionSummary(len(predicted), num, metrics, [], [], drift)
    targets = find_targets(head, cohort, predicted)
    calibrated = np.array(
        [found[b.name].get("calibrated", found[b.name]["probabilities"])
         for b in predicted]
    )  # fmt: skip
    more = decision_columns(head, probabilities, calibrated) | drift_column(drift)
    _write_table(out, head, predicted, probabilities, targets, more)
    known = [i for i, target in enumerate(targets) if target is not None]
    examined = _examine_labelled(
        head, cohort, [predicted[i] for i in known],
        probabilities[known], calibrated[known],
        [str(targets[i]) for i in known], subgroups,
    )  # fmt: skip
    groups, metrics = examined.groups, examined.metrics
    if subgroups:
        write_text(out / SUBGROUPS, subgroup_table(groups))
    notes = unknown_labels(head, cohort, predicted) + examined.undefined
    notes += small_groups(groups)
    if tiles is not None:
        metrics |= localise(out, head, predicted, tiles, annotation, notes)
    _write_metrics(out, metrics)
    return PredictionSummary(
        len(predicted), len(known), metrics, groups, notes, drift, examined.decisions
    )


class _Examined(NamedTuple):
    """Metrics, groups and decisions of labelled bags; ``undefined``: notes."""

    metrics: dict[str, Interval]
    undefined: list[str]
    decisions: Examination | None
    groups: list[Subgroup]


def _examine_labelled(
    head: Head,
    cohort: Cohort,
    labelled: list[Bag],
    probabilities: np.ndarray,
    calibrated: np.ndarray,
    truth: list[str],
    subgroups: Sequence[str],
) -> _Examined:
    """Compare predictions [N, C] of N labelled bags, as is and calibrated, to truth."""
    index = np.array([head.classes.index(label) for label in truth], np.int64)
    metrics, undefined = external_metrics(head.classes, labelled, probabilities, index)
    decisions = None
    if labelled and head.decision:
        own = as_predictions(head.classes, labelled, probabilities, index)
        decisions = examine_predicted(head.decision, own, calibrated)
    groups = find_subgroups(
        cohort, subgroups, head.classes, labelled, probabilities, index, decisions
    )
    return _Examined(metrics, undefined, decisions, groups)


def find_failures(out: Path, bags: list[Bag]) -> list[Failure]:
    """The failures recorded in the shards of the bags."""
    shards = _shards(out, bags).values()
    return [Failure(**failure) for shard in shards for failure in shard["failures"]]


def find_predicted(out: Path, bags: list[Bag]) -> list[Bag]:
    """The bags that have probabilities."""
    shards = _shards(out, bags)
    return [bag for bag in bags if shards.get(bag.name, {}).get("probabilities")]


def _shards(out: Path, bags: list[Bag]) -> dict[str, dict[str, Any]]:
    """Metadata of the existing shards, by bag."""
    shards = {bag.name: read_metadata(shard_path(out, bag.name)) for bag in bags}
    return {name: shard for name, shard in shards.items() if shard}


def _write_metrics(out: Path, metrics: Mapping[str, Interval]) -> None:
    content = {name: _defined(interval) for name, interval in metrics.items()}
    write_text(out / METRICS, json.dumps(content, indent=2) + "\n")


def _defined(interval: Interval) -> dict[str, float | None]:
    """The interval as JSON values: None for NaN, which JSON does not have."""
    return {k: v if math.isfinite(v) else None for k, v in asdict(interval).items()}


def _write_table(
    out: Path,
    head: Head,
    bags: list[Bag],
    probabilities: np.ndarray,
    targets: list[str | None],
    more: Mapping[str, pa.Array],
) -> None:
    """Write ``predictions.parquet``; fold and repeat are null: folds are averaged.

    ``more``: columns at the end.
    """
    columns = {
        **identity_columns(bags),
        "target": pa.array(targets, pa.string()),
        **no_fold(bags),
    }
    for index, name in enumerate(head.classes):
        columns[f"prob_{name}"] = pa.array(probabilities[:, index], pa.float64())
    names = [head.classes[i] for i in decide(probabilities)]
    columns["predicted"] = pa.array(names, pa.string())
    write_shard(out / PREDICTIONS, [pa.table({**columns, **more})])
