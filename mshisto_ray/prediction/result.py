"""Results of predicted bags: the table, external metrics, localisation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mshisto_ray.config import InputError
from mshisto_ray.evaluation import localisation
from mshisto_ray.learning.metrics import decide
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.external_metrics import external_metrics
from mshisto_ray.prediction.pictures import Truth
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
from mshisto_ray.store.spelling import canonical_number, explain_clashes
from mshisto_ray.store.tiles import TileDirectory

PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"
SUBGROUPS = "subgroups.csv"


@dataclass(frozen=True)
class PredictionSummary:
    """Counts, ``metrics`` of external bags and of ``subgroups``, ``notes``: lines."""

    num_predicted: int
    num_labelled: int
    metrics: dict[str, Interval]
    subgroups: list[Subgroup]
    notes: list[str]


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
    are annotated (see ``localisation.localise``).

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
    if not head.kind.of_classes:
        metrics = write_values(
            out / PREDICTIONS, head, cohort, predicted, probabilities
        )
        _write_metrics(out, metrics)
        num = len(later_truth(head, cohort, predicted)[0])
        return PredictionSummary(len(predicted), num, metrics, [], [])
    targets = find_targets(head, cohort, predicted)
    _write_table(out, head, predicted, probabilities, targets)
    known = [i for i, target in enumerate(targets) if target is not None]
    index = np.array([head.classes.index(str(targets[i])) for i in known], np.int64)
    labelled = [predicted[i] for i in known]
    metrics, undefined = external_metrics(
        head.classes, labelled, probabilities[known], index
    )
    groups = find_subgroups(
        cohort, subgroups, head.classes, labelled, probabilities[known], index
    )
    if subgroups:
        write_text(out / SUBGROUPS, subgroup_table(groups))
    notes = _unknown_labels(head, cohort, predicted) + undefined + small_groups(groups)
    if tiles is not None:
        metrics |= _localise(out, head, predicted, tiles, annotation, notes)
    _write_metrics(out, metrics)
    return PredictionSummary(len(predicted), len(known), metrics, groups, notes)


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


def _localise(
    out: Path,
    head: Head,
    bags: list[Bag],
    tiles: Path,
    annotation: str | None,
    notes: list[str],
) -> dict[str, Interval]:
    """Metrics of how well scores find annotated tiles; none without annotations."""
    directory = TileDirectory(tiles)
    patients = {slide: bag.patient_id for bag in bags for slide in bag.slide_ids}
    names = localisation.annotation_names(directory, patients)
    if not names and annotation is None:
        return {}
    if annotation is None and len(names) > 1:
        notes.append(
            f"tiles are annotated as {', '.join(names)}: give annotation={names[0]} or "
            "another to measure how well attention finds them"
        )
        return {}
    notes += explain_clashes("annotation", names)
    name = annotation or names[0]
    if name not in names:
        notes.append(
            f"annotation: no tile of these slides is annotated as {name!r}; have "
            f"{', '.join(names) or 'none'}"
        )
        return {}
    positive = head.classes[1] if len(head.classes) == 2 else None
    if name in head.classes:
        positive = name
    paths = [shard_path(out, bag.name) for bag in bags]
    found = localisation.localise(paths, directory, name, positive)
    num = len({slide for per_slide in found.values() for slide in per_slide})
    notes.append(
        f"..._auroc_<um/px>: against tiles annotated as {name!r}, within each of {num} "
        "slides that hold both kinds"
    )
    return localisation.summarise(found, patients)


def _write_metrics(out: Path, metrics: Mapping[str, Interval]) -> None:
    content = {name: _defined(interval) for name, interval in metrics.items()}
    write_text(out / METRICS, json.dumps(content, indent=2) + "\n")


def _defined(interval: Interval) -> dict[str, float | None]:
    """The interval as JSON values: None for NaN, which JSON does not have."""
    return {k: v if math.isfinite(v) else None for k, v in asdict(interval).items()}


def find_targets(head: Head, cohort: Cohort, bags: list[Bag]) -> list[str | None]:
    """The label of each bag, None where the cohort has none of the head's classes.

    Raises:
        InputError: slides of one bag have different labels.
    """
    column = head.about["target"]["column"]
    if cohort.find(column) is None:
        return [None] * len(bags)
    labels = cohort.column(column)
    # A head of earlier versions may have the class "1.0", which tables now call "1".
    classes = {canonical_number(name): name for name in head.classes}
    known = [label for label in labels.values() if label is not None]
    problems = explain_clashes(f"{cohort.path}: {column}", [*known, *classes])
    if problems:
        raise InputError("\n".join(problems))
    targets: list[str | None] = []
    for bag in bags:
        own = {labels[slide_id] for slide_id in bag.slide_ids} - {None}
        if len(own) > 1:
            raise InputError(
                f"{cohort.path}: patient {bag.name!r} has slides with different "
                f"{column}s ({', '.join(sorted(map(str, own)))})"
            )
        label = own.pop() if own else None
        targets.append(classes.get(label) if label else None)
    return targets


def find_truth(head: Head, cohort: Cohort, bags: list[Bag]) -> dict[str, Truth]:
    """What the cohort knows of each slide: label of its bag, annotation."""
    targets: list[str | None] = [None] * len(bags)
    if head.kind.of_classes:
        targets = find_targets(head, cohort, bags)
    labels = {
        slide_id: target
        for bag, target in zip(bags, targets, strict=True)
        for slide_id in bag.slide_ids
    }
    return {
        row.slide_id: Truth(labels.get(row.slide_id), row.annotation)
        for row in cohort.rows
    }


def _unknown_labels(head: Head, cohort: Cohort, bags: list[Bag]) -> list[str]:
    """A note on slides whose label is not a class of the head, if there are any."""
    column = head.about["target"]["column"]
    if cohort.find(column) is None:
        return []
    labels = cohort.column(column)
    own = {slide: labels[slide] for bag in bags for slide in bag.slide_ids}
    known = {None, *map(canonical_number, head.classes)}
    others = sorted(slide for slide, label in own.items() if label not in known)
    if not others:
        return []
    return [
        f"{len(others)} slides have a {column} that is not a class of the head "
        f"({', '.join(head.classes)}) and are left out of external metrics: "
        f"{', '.join(others[:5])}{', ...' if others[5:] else ''}"
    ]


def _write_table(
    out: Path,
    head: Head,
    bags: list[Bag],
    probabilities: np.ndarray,
    targets: list[str | None],
) -> None:
    """Write ``predictions.parquet``; fold and repeat are null: folds are averaged."""
    columns = {
        **identity_columns(bags),
        "target": pa.array(targets, pa.string()),
        **no_fold(bags),
    }
    for index, name in enumerate(head.classes):
        columns[f"prob_{name}"] = pa.array(probabilities[:, index], pa.float64())
    names = [head.classes[i] for i in decide(probabilities)]
    columns["predicted"] = pa.array(names, pa.string())
    write_shard(out / PREDICTIONS, [pa.table(columns)])
