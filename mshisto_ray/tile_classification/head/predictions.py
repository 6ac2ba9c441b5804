"""Predictions of tiles as a table, and the table as predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.learning.metrics import decide
from mshisto_ray.learning.predictions import Predictions, text_of
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.targets import Target
from mshisto_ray.store.shards import read_metadata, write_shard
from mshisto_ray.tile_classification.head.samples import TileSamples

# A model's split, some tiles [n] and its probabilities of them [n, C].
TilePart = tuple[Split, np.ndarray, np.ndarray]


def write_tile_predictions(
    path: Path,
    samples: TileSamples,
    parts: Iterable[TilePart],
) -> None:
    """Write a row per tile that a model predicted.

    ``slide_id, mpp, row, col, patient_id, target, fold, repeat``, ``prob_<class>`` ..
    and ``predicted``.

    Args:
        path: Parquet file.
        samples: all tiles.
        parts: of each model its split, tiles [n] and probabilities [n, C].
    """
    tables = [_table(samples, *part) for part in parts]
    write_shard(path, tables, {"classes": list(samples.classes)})


def _table(
    samples: TileSamples, split: Split, rows: np.ndarray, found: np.ndarray
) -> pa.Table:
    classes = np.array(samples.classes, object)
    slides = np.array(list(samples.features.slide_ids), object)
    groups = np.array(samples.groups, object)
    columns: dict[str, Any] = {
        "slide_id": pa.array(slides[samples.slide[rows]], pa.string()),
        "mpp": np.full(len(rows), samples.mpp),
        "row": samples.place[rows, 0].astype(np.int32),
        "col": samples.place[rows, 1].astype(np.int32),
        "patient_id": pa.array(groups[samples.group[rows]], pa.string()),
        "target": pa.array(classes[samples.target[rows]], pa.string()),
        "fold": np.full(len(rows), split.fold, np.int32),
        "repeat": np.full(len(rows), split.repeat, np.int32),
    }
    for i, name in enumerate(samples.classes):
        columns[f"prob_{name}"] = np.ascontiguousarray(found[:, i])
    columns["predicted"] = pa.array(classes[decide(found)], pa.string())
    return pa.table(columns)


def as_predictions(
    samples: TileSamples,
    parts: Sequence[TilePart],
    kind: Target,
) -> Predictions:
    """Tiles that models predicted; a tile is its slide, row and column.

    Arguments as of ``write_tile_predictions``.
    """
    slides = np.array(list(samples.features.slide_ids), object)[samples.slide]
    rows = np.concatenate([rows for _, rows, _ in parts])
    used, at = np.unique(rows, return_inverse=True)
    places = zip(slides[used].tolist(), *samples.place[used].T.tolist(), strict=True)
    names = np.array([f"{s} {row} {col}" for s, row, col in places], object)
    sizes = [len(own) for _, own, _ in parts]
    return Predictions(
        samples.classes,
        bag=names[at],
        slide_id=slides[rows],
        patient_id=np.array(samples.groups, object)[samples.group[rows]],
        target=samples.target[rows],
        fold=np.repeat([split.fold for split, *_ in parts], sizes),
        repeat=np.repeat([split.repeat for split, *_ in parts], sizes),
        probabilities=np.concatenate([found for *_, found in parts]).astype(float),
        kind=kind,
    )


def read_tile_predictions(path: Path, kind: Target) -> Predictions:
    """A table of ``write_tile_predictions``; a tile is its slide, row and column."""
    table = pq.read_table(path)
    names = tuple((read_metadata(path) or {})["classes"])
    slide, patient = (text_of(table[name]) for name in ("slide_id", "patient_id"))
    places = zip(
        slide.tolist(), table["row"].to_pylist(), table["col"].to_pylist(), strict=True
    )
    tiles = np.array([f"{s} {row} {col}" for s, row, col in places], object)
    target, values = kind.read(table, names)
    return Predictions(
        names,
        bag=tiles,
        slide_id=slide,
        patient_id=patient,
        target=target,
        fold=table["fold"].to_numpy(),
        repeat=table["repeat"].to_numpy(),
        probabilities=values,
        kind=kind,
    )
