"""Predictions of bags by the models of a cross-validation, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import Target, TargetConfig, restore_target
from mshisto_ray.store.shards import ShardWriter, read_metadata

_PREFIX = "prob_"
_OF_ALL_ROWS = {"classes", "kind", "models"}
_MODELS = "models"  # key of a table's metadata


@dataclass(frozen=True)
class Predictions:
    """One row per bag and the model that predicted it.

    ``bag``, ``slide_id`` (None where a bag is not one slide), ``patient_id``: [N]
    text; ``target``: class index [N]; ``fold``, ``repeat``: [N] of the model;
    ``probabilities``: float64 [N, C], columns in the order of ``classes``. ``kind``:
    the target; where it is not classes, ``classes`` are its names, ``target`` its
    truth [N, ...] and ``probabilities`` its values [N, V]. ``models``: by repeat and
    fold, what metrics need of a model (``FittedTarget.measured_with``).
    """

    classes: tuple[str, ...]
    bag: np.ndarray
    slide_id: np.ndarray
    patient_id: np.ndarray
    target: np.ndarray
    fold: np.ndarray
    repeat: np.ndarray
    probabilities: np.ndarray
    kind: Target = field(default_factory=lambda: TargetConfig().build())
    models: Mapping[tuple[int, int], Mapping[str, Any]] = field(default_factory=dict)

    def kind_of(self, repeat: int) -> Target:
        """The target with what its metrics need of the models of a repeat."""
        if not self.models:
            return self.kind
        own = {fold: one for (r, fold), one in self.models.items() if r == repeat}
        return self.kind.knowing(own)

    def __len__(self) -> int:
        return len(self.bag)

    def take(self, rows: np.ndarray) -> Predictions:
        """Some of the rows, by a mask [N] or by their places."""
        names = set(Predictions.__dataclass_fields__) - _OF_ALL_ROWS
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Join the rows of all parts, which share their classes."""
    names = set(Predictions.__dataclass_fields__) - _OF_ALL_ROWS
    columns = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
    models = {key: one for part in parts for key, one in part.models.items()}
    return Predictions(parts[0].classes, **columns, kind=parts[0].kind, models=models)


def as_table(predictions: Predictions) -> pa.Table:
    """Predictions as a table.

    Columns: ``bag, slide_id, patient_id``, those of the target's truth, ``fold,
    repeat``, those of its values; of classes ``target``, ``prob_<class>`` .. and
    ``predicted``.
    """
    kind, names = predictions.kind, predictions.classes
    columns = {
        "bag": pa.array(predictions.bag, pa.string()),
        "slide_id": pa.array(predictions.slide_id, pa.string()),
        "patient_id": pa.array(predictions.patient_id, pa.string()),
        **kind.truth_columns(predictions.target, names),
        "fold": pa.array(predictions.fold, pa.int32()),
        "repeat": pa.array(predictions.repeat, pa.int32()),
        **kind.value_columns(predictions.probabilities, names),
    }
    return pa.table(columns)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the table of predictions as Parquet."""
    with ShardWriter(path) as writer:
        add_predictions(writer, predictions)


def add_predictions(writer: ShardWriter, predictions: Predictions) -> None:
    """Write a part of a table of predictions; ``models`` are those of the first."""
    metadata = table_metadata(predictions.kind, predictions.classes)
    if predictions.models:
        known = predictions.models.items()
        metadata[_MODELS] = [[*key, dict(state)] for key, state in known]
    writer.add(as_table(predictions), metadata)


def table_metadata(kind: Target, names: Sequence[str]) -> dict[str, Any]:
    """What a table says of its target; without it a table is of classes."""
    found: dict[str, Any] = {"classes": list(names)}
    return found if kind.of_classes else {**found, "target": kind.settings}


def read_kind(path: Path) -> tuple[Target, tuple[str, ...]] | None:
    """Target and names of a table that says them; None: it is of classes."""
    about = read_metadata(path) or {}
    if "target" not in about:
        return None
    return restore_target(about["target"]), tuple(about["classes"])


def folds_of(path: Path) -> list[int]:
    """The folds that a table of predictions has, ascending."""
    found: set[int] = set()
    with pq.ParquetFile(path) as file:
        for part in range(file.num_row_groups):
            column = file.read_row_group(part, columns=["fold"])["fold"]
            found |= set(column.unique().to_pylist())
    return sorted(found)


def read_predictions(path: Path, fold: int | None = None) -> Predictions:
    """Read a table of ``write_predictions``, with classes in the order of its columns.

    ``fold``: whose rows alone are read; None: all.

    Raises:
        InputError: no such file, or not a table of predictions.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such predictions table")
    of_fold = None if fold is None else [("fold", "=", fold)]
    table = pq.read_table(path, filters=of_fold)
    kind, names = read_kind(path) or (TargetConfig().build(), _classes(path, table))
    target, values = kind.read(table, names)
    return Predictions(
        names,
        bag=text_of(table["bag"]),
        slide_id=text_of(table["slide_id"]),
        patient_id=text_of(table["patient_id"]),
        target=target,
        fold=table["fold"].to_numpy(),
        repeat=table["repeat"].to_numpy(),
        probabilities=values,
        kind=kind,
        models={(r, f): s for r, f, s in (read_metadata(path) or {}).get(_MODELS, [])},
    )


def _classes(path: Path, table: pa.Table) -> tuple[str, ...]:
    names = table.column_names
    classes = [n.removeprefix(_PREFIX) for n in names if n.startswith(_PREFIX)]
    missing = {"bag", "patient_id", "target", "fold", "repeat"} - set(names)
    if missing or len(classes) < 2:
        raise InputError(
            f"{path}: not a predictions table, it lacks "
            f"{', '.join(sorted(missing)) or 'two prob_<class> columns'}"
        )
    return tuple(classes)


def text_of(column: pa.ChunkedArray) -> np.ndarray:
    """Text [N], each word once in memory; None where there is none."""
    found = column.combine_chunks().dictionary_encode()
    words = np.array([*found.dictionary.to_pylist(), None], object)
    places = found.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)
    return words[places]
