"""Predictions of several heads in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.prediction.result import PREDICTIONS
from mshisto_ray.store.shards import write_shard

_IDENTITY = ("bag", "slide_id", "patient_id")
_NOT_VALUES = (*_IDENTITY, "fold", "repeat")


def write_joined(out: Path, names: Sequence[str]) -> Path:
    """Write ``out/predictions.parquet``, a row a bag, from those of ``out/NAME``.

    Columns of a head are called ``<head>_<column>``; null where a head has no such bag.
    """
    tables = [pq.read_table(out / name / PREDICTIONS) for name in names]
    keys = [list(zip(*(t[c].to_pylist() for c in _IDENTITY), strict=True))
            for t in tables]  # fmt: skip
    bags = list(dict.fromkeys(key for own in keys for key in own))
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        name: pa.array(values, pa.string())
        for name, values in zip(_IDENTITY, zip(*bags, strict=True), strict=True)
    }
    for name, table, own in zip(names, tables, keys, strict=True):
        place = {key: i for i, key in enumerate(own)}
        rows = np.array([place.get(key, -1) for key in bags])
        taken = pa.array(rows, pa.int64(), mask=rows < 0)
        for column in table.column_names:
            if column not in _NOT_VALUES:
                columns[f"{name}_{column}"] = table[column].take(taken)
    path = out / PREDICTIONS
    write_shard(path, [pa.table(columns)])
    return path
