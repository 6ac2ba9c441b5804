"""Predictions of bags by the models of a cross-validation, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.learning.metrics import decide
from mshisto_ray.store.shards import write_shard

_PREFIX = "prob_"


@dataclass(frozen=True)
class Predictions:
    """One row per bag and the model that predicted it.

    ``bag``, ``slide_id`` (None where a bag is not one slide), ``patient_id``: [N]
    text; ``target``: class index [N]; ``fold``, ``repeat``: [N] of the model;
    ``probabilities``: float64 [N, C], columns in the order of ``classes``.
    """

    classes: tuple[str, ...]
    bag: np.ndarray
    slide_id: np.ndarray
    patient_id: np.ndarray
    target: np.ndarray
    fold: np.ndarray
    repeat: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.bag)


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Join the rows of all parts, which share their classes."""
    names = [name for name in Predictions.__dataclass_fields__ if name != "classes"]
    columns = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
    return Predictions(parts[0].classes, **columns)


def as_table(predictions: Predictions) -> pa.Table:
    """Predictions as a table.

    Columns: ``bag, slide_id, patient_id, target, fold, repeat, prob_<class>..,
    predicted``; ``target`` and ``predicted`` are class names.
    """
    classes = np.asarray(predictions.classes, dtype=object)
    columns = {
        "bag": pa.array(predictions.bag, pa.string()),
        "slide_id": pa.array(predictions.slide_id, pa.string()),
        "patient_id": pa.array(predictions.patient_id, pa.string()),
        "target": pa.array(classes[predictions.target], pa.string()),
        "fold": pa.array(predictions.fold, pa.int32()),
        "repeat": pa.array(predictions.repeat, pa.int32()),
    }
    for index, name in enumerate(predictions.classes):
        column = np.ascontiguousarray(predictions.probabilities[:, index])
        columns[_PREFIX + name] = pa.array(column, pa.float64())
    columns["predicted"] = pa.array(
        classes[decide(predictions.probabilities)], pa.string()
    )
    return pa.table(columns)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the table of predictions as Parquet."""
    metadata = {"classes": list(predictions.classes)}
    write_shard(path, [as_table(predictions)], metadata)


def read_predictions(path: Path) -> Predictions:
    """Read a table of ``write_predictions``, with classes in the order of its columns.

    Raises:
        InputError: no such file, or not a table of predictions.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such predictions table")
    table = pq.read_table(path)
    names = table.column_names
    classes = [n.removeprefix(_PREFIX) for n in names if n.startswith(_PREFIX)]
    missing = {"bag", "patient_id", "target", "fold", "repeat"} - set(names)
    if missing or len(classes) < 2:
        raise InputError(
            f"{path}: not a predictions table, it lacks "
            f"{', '.join(sorted(missing)) or 'two prob_<class> columns'}"
        )
    index = {name: i for i, name in enumerate(classes)}
    columns = [table[_PREFIX + name].to_numpy() for name in classes]
    return Predictions(
        tuple(classes),
        bag=_text(table["bag"]),
        slide_id=_text(table["slide_id"]),
        patient_id=_text(table["patient_id"]),
        target=np.array([index[t] for t in table["target"].to_pylist()]),
        fold=table["fold"].to_numpy(),
        repeat=table["repeat"].to_numpy(),
        probabilities=np.stack(columns, 1),
    )


def _text(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=object)
