"""Bags from a Parquet table with a row per instance."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.store.shards import tensor_values


@dataclass(frozen=True)
class BagTable:
    """Bags in the order of their first rows.

    ``columns``: per bag, the requested columns that exist, as text (None where
    empty); ``column_names``: all except ``bag`` and ``features``; ``digest``: of the
    file.
    """

    features: ArrayFeatures
    columns: dict[str, list[str | None]]
    column_names: list[str]
    digest: str


def read_bag_table(path: Path, columns: Collection[str]) -> BagTable:
    """Read ``bag`` (any scalar) and ``features`` (lists or tensors of one width).

    Rows of a bag need not be neighbours; their order within it is kept.

    Args:
        path: the table.
        columns: other columns to read if they exist; one value per bag.

    Raises:
        InputError: no such file, no bag or features, bags of different width, values
            that are not finite, or a column with two values in one bag.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such bag table (Parquet)")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from None
    missing = {"bag", "features"} - set(table.column_names)
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(sorted(missing))}; a bag table has bag, "
            f"features and a label, this has {', '.join(table.column_names)}"
        )
    if not table.num_rows:
        raise InputError(f"{path}: the bag table has no rows")
    bag = table["bag"]
    if bag.null_count:
        raise InputError(f"{path}: column bag is empty in {bag.null_count} rows")
    cells = [str(text) for text in _texts(bag)]
    place = {name: i for i, name in enumerate(dict.fromkeys(cells))}
    names, code = list(place), np.array([place[cell] for cell in cells])
    order = np.argsort(code, kind="stable")
    values = _vectors(path, table["features"], cells)[order]
    _check_finite(path, values, names, code[order])
    offsets = np.concatenate([[0], np.bincount(code).cumsum()]).astype(np.int64)
    features = ArrayFeatures(names, values, offsets)
    others = [n for n in table.column_names if n not in ("bag", "features")]
    found = {
        name: _per_bag(path, name, _texts(table[name]), code, names)
        for name in others
        if name in columns
    }
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return BagTable(features, found, others, digest)


def _vectors(path: Path, column: pa.ChunkedArray, bags: list[str]) -> np.ndarray:
    """Features as float32 [N, D]."""
    if column.null_count:
        where = bags[column.is_null().to_pylist().index(True)]
        raise InputError(f"{path}: bag {where!r} has an instance without features")
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType) and len(kind.shape) == 1:
        return tensor_values(column).astype(np.float32)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(test(kind) for test in lists):
        raise InputError(f"{path}: features must be lists of numbers, not {kind}")
    widths = np.asarray(pc.call_function("list_value_length", [column]))
    if widths.min() != widths.max():
        odd = int(np.flatnonzero(widths != widths[0])[0])
        raise InputError(
            f"{path}: bag {bags[odd]!r} has features of width {widths[odd]}, bag "
            f"{bags[0]!r} of width {widths[0]}; all instances have one width"
        )
    if widths[0] == 0:
        raise InputError(f"{path}: features have width 0")
    flat = pc.call_function("list_flatten", [column]).combine_chunks()
    try:
        with np.errstate(over="ignore"):  # reported below as not finite
            cells = flat.to_numpy(zero_copy_only=False).astype(np.float32)
            return cells.reshape(len(column), -1)
    except ValueError:
        raise InputError(f"{path}: features must be numbers, not {kind}") from None


def _check_finite(
    path: Path, values: np.ndarray, names: list[str], code: np.ndarray
) -> None:
    wrong = np.unique(code[~np.isfinite(values).all(1)])
    if len(wrong):
        shown = ", ".join(repr(names[c]) for c in wrong[:3])
        raise InputError(
            f"{path}: features that are not finite in {len(wrong)} bags ({shown}); "
            "repair or leave out these instances"
        )


def _per_bag(
    path: Path,
    column: str,
    texts: list[str | None],
    code: np.ndarray,
    names: list[str],
) -> list[str | None]:
    found: list[str | None] = [None] * len(names)
    seen = np.zeros(len(names), dtype=bool)
    for bag, text in zip(code, texts, strict=True):
        if seen[bag] and found[bag] != text:
            raise InputError(
                f"{path}: bag {names[bag]!r} has two values in column {column!r}"
                f" ({found[bag]!r} and {text!r}); a bag has one"
            )
        found[bag], seen[bag] = text, True
    return found


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Cells as text, whole floats without their .0; empty, null and NaN are None."""
    texts = []
    for value in column.to_pylist():
        if isinstance(value, float):
            value = int(value) if value.is_integer() else value
            value = None if value != value else value
        texts.append(None if value is None else str(value).strip() or None)
    return texts
