"""Bags from a Parquet table with a row per instance."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.store.columns import (
    ColumnsConfig,
    find_column,
    looks_like_fold,
    reserved_columns,
)
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.store.identity import check_ids
from mshisto_ray.store.shards import tensor_values
from mshisto_ray.store.spelling import canonical_number, explain_clashes
from mshisto_ray.store.table import missing_note, read_cells


@dataclass(frozen=True)
class BagTable:
    """Bags in the order of their first rows.

    ``columns``: per bag, the requested columns that exist, as text (None where
    missing), by the name that was requested; ``column_names``: all except ``bag`` and
    ``features``; ``digest``: of the file; ``notes``: what was read as missing;
    ``splits``: different values of the columns that are named as if they held a split.
    """

    features: ArrayFeatures
    columns: dict[str, list[str | None]]
    column_names: list[str]
    digest: str
    notes: tuple[str, ...] = ()
    splits: Mapping[str, list[str | None]] = field(default_factory=dict)


def read_bag_table(
    path: Path, columns: Collection[str], given: ColumnsConfig | None = None
) -> BagTable:
    """Read ``bag`` (any scalar) and ``features`` (lists or tensors of one width).

    Rows of a bag need not be neighbours; their order within it is kept.

    Args:
        path: the table.
        columns: other columns to read if they exist, in whatever case; one value per
            bag.
        given: names of columns that are not ``patient_id`` and ``fold``.

    Raises:
        InputError: no such file, no bag or features, bags of different width, values
            that are not finite, a column with two values in one bag, or two spellings
            of one bag, patient or value (see ``store.spelling``).
    """
    table, found = _open(path, given or ColumnsConfig())
    texts = read_cells(table[found["bag"]].to_pylist())[0]
    if texts.count(None):
        raise InputError(f"{path}: column bag is empty in {texts.count(None)} rows")
    cells = [str(text) for text in texts]
    place = {name: i for i, name in enumerate(dict.fromkeys(cells))}
    names, code = list(place), np.array([place[cell] for cell in cells])
    order = np.argsort(code, kind="stable")
    values = _vectors(path, table[found["features"]], cells)[order]
    _check_finite(path, values, names, code[order])
    offsets = np.concatenate([[0], np.bincount(code).cumsum()]).astype(np.int64)
    features = ArrayFeatures(names, values, offsets)
    kept = {found["bag"], found["features"]}
    others = [n for n in table.column_names if n not in kept]
    sources = {key: found.get(key) or find_column(path, others, key) for key in columns}
    read: dict[str, list[str | None]] = {}
    notes = []
    for wanted, name in sources.items():
        if name is not None:
            texts, words = read_cells(table[name].to_pylist())
            if wanted != "patient_id":
                texts = [text and canonical_number(text) for text in texts]
            read[wanted] = _per_bag(path, name, texts, code, names)
            notes += [missing_note(path, name, words)] if words else []
    _check_spellings(path, names, read)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    splits = {
        name: read_cells(table[name].unique().to_pylist())[0]
        for name in looks_like_fold(others)
    }
    return BagTable(features, read, others, digest, tuple(notes), splits)


def _open(path: Path, given: ColumnsConfig) -> tuple[pa.Table, dict[str, str]]:
    """Return the table, and its column for each reserved name that it has."""
    if not path.is_file():
        raise InputError(f"{path}: no such bag table (Parquet)")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from None
    names = table.column_names
    reserved = ("bag", "features", "patient_id", "fold")
    found = reserved_columns(path, names, given, reserved)
    missing = {"bag", "features"} - set(found)
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(sorted(missing))}; a bag table has bag, "
            f"features and a label, this has {', '.join(names)}"
        )
    if not table.num_rows:
        raise InputError(f"{path}: the bag table has no rows")
    return table, found


def _check_spellings(
    path: Path, names: list[str], read: Mapping[str, list[str | None]]
) -> None:
    patients = read.get("patient_id", [None] * len(names))
    problems = check_ids(names, patients, "bag")
    for name, texts in read.items():
        if name != "patient_id":
            known = [text for text in texts if text is not None]
            problems += explain_clashes(f"column {name!r}", known)
    if problems:
        raise InputError("\n".join(f"{path}: {problem}" for problem in problems))


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
    known = np.isfinite(values)
    wrong = np.unique(code[~known.all(1)])
    if len(wrong):
        shown = ", ".join(repr(names[c]) for c in wrong[:3])
        columns = np.flatnonzero(~known.all(0)).tolist()
        where = ", ".join(map(str, columns[:3])) + (", ..." if columns[3:] else "")
        raise InputError(
            f"{path}: features that are not finite in {len(wrong)} bags ({shown}), in "
            f"{len(columns)} of {values.shape[1]} features ({where}; the first is 0); "
            "repair these values, or leave these instances or features out"
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
