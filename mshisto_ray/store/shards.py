"""Parquet files that are complete or absent: one write and one read function.

A shard carries a JSON object in its Parquet metadata (failures, fingerprint, recipe
digest), so that the rows and the record of a unit of work are committed together, by
one rename.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.store.errors import UnitError
from mshisto_ray.store.temporary import temporary_beside

_KEY = b"mshisto"


class ShardWriter:
    """Writes the row groups of one file one by one, so that none has to wait in memory.

    A context: the file is complete when it is left, and absent where an exception left
    it or nothing was added.
    """

    def __init__(self, path: Path):
        self._path, self._temporary = path, temporary_beside(path)
        self._writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table, metadata: Mapping[str, Any] | None = None) -> None:
        """Write a table as a row group.

        Args:
            table: of the schema of the first; it may have no rows.
            metadata: JSON object kept in the file: that of the first table.
        """
        if self._writer is None:
            self._writer = self._open(table.schema, metadata or {})
        if table.num_rows:
            kept = self._writer.schema.metadata
            self._writer.write_table(table.replace_schema_metadata(kept))

    def _open(self, schema: pa.Schema, metadata: Mapping[str, Any]) -> pq.ParquetWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        entries = {
            **(schema.metadata or {}),
            _KEY: json.dumps(dict(metadata)).encode(),
        }
        schema = schema.with_metadata(entries)
        # Vectors and pictures do not repeat: a dictionary would only slow reading down.
        names = [field.name for field in schema if not _is_bulk(field.type)]
        # pyarrow's stubs declare only the boolean form of use_dictionary.
        options: dict[str, Any] = {"use_dictionary": names, "compression": "zstd"}
        return pq.ParquetWriter(self._temporary, schema, **options)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._writer is None:
                return
            self._writer.close()
            if kind is None:
                with self._temporary.open("rb") as file:
                    os.fsync(file.fileno())
                os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


def write_shard(
    path: Path,
    row_groups: Sequence[pa.Table],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write tables as the row groups of one file, atomically.

    Args:
        path: final name; parents are made.
        row_groups: tables of one schema; at least one (it may have no rows).
        metadata: JSON object kept in the file.
    """
    with ShardWriter(path) as writer:
        for table in row_groups:
            writer.add(table, metadata)


def _is_bulk(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.FixedShapeTensorType) or pa.types.is_binary(kind)


def read_metadata(path: Path) -> dict[str, Any] | None:
    """The JSON object of a shard, or None if the file is absent or incomplete."""
    try:
        entries = pq.read_schema(path).metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    return json.loads(entries[_KEY]) if _KEY in entries else None


def read_shard(
    path: Path, columns: Sequence[str] | None = None, mpp: float | None = None
) -> pa.Table:
    """The rows of a shard, or of one scale of it (reading only its row groups).

    Raises:
        UnitError: the file is damaged.
    """
    try:
        return _read(path, columns, mpp)
    except (pa.ArrowInvalid, pa.ArrowIOError) as error:
        if isinstance(error, FileNotFoundError) or getattr(error, "errno", None):
            raise  # of the storage
        raise UnitError(
            "DamagedShard",
            f"{path}: damaged ({error}): delete it and run the job that made it "
            "(mshisto tile, mshisto embed or mshisto import_h5) again",
        ) from None


def _read(path: Path, columns: Sequence[str] | None, mpp: float | None) -> pa.Table:
    with pq.ParquetFile(path) as file:
        if mpp is None:
            return file.read(columns=columns)
        wanted = _row_groups(file, mpp)
        needed = None if columns is None else [*columns, "mpp"]
        table = file.read_row_groups(wanted, columns=needed)
    keep = np.flatnonzero(table["mpp"].to_numpy() == mpp)
    table = table if len(keep) == table.num_rows else table.take(keep)
    return table if columns is None else table.select(list(columns))


def _row_groups(file: pq.ParquetFile, mpp: float) -> list[int]:
    column = file.schema_arrow.get_field_index("mpp")
    wanted = []
    for index in range(file.num_row_groups):
        statistics = file.metadata.row_group(index).column(column).statistics
        if statistics is None or statistics.min <= mpp <= statistics.max:
            wanted.append(index)
    return wanted


def tensor_column(values: np.ndarray) -> pa.ExtensionArray:
    """Vectors [N, D] as a fixed_shape_tensor column; N may be 0."""
    num, dim = values.shape
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), (dim,))
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, dim)
    assert len(storage) == num
    return pa.ExtensionArray.from_storage(kind, storage)


def tensor_values(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed_shape_tensor column as [N, D]; N may be 0."""
    (dim,) = column.type.shape
    parts = [c.storage.flatten().to_numpy().reshape(-1, dim) for c in column.chunks]
    empty = np.zeros((0, dim), column.type.value_type.to_pandas_dtype())
    return np.concatenate(parts) if parts else empty


def match_tiles(left: Iterable[np.ndarray], right: Iterable[np.ndarray]) -> np.ndarray:
    """For each tile of ``left``, its index in ``right`` or -1.

    Both are (slide_id, mpp, row, col) as four arrays; ``mpp`` is compared exactly, as
    all files store the configured value. All joins on tile identity use this function.
    Tiles of ``right`` are unique.
    """
    index = {tile: i for i, tile in enumerate(zip(*right, strict=True))}
    found = [index.get(tile, -1) for tile in zip(*left, strict=True)]
    return np.array(found, dtype=np.int64)
