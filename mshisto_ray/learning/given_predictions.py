"""Tables of predictions that any software made, one or several models in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mshisto_ray.config import InputError
from mshisto_ray.learning.model_rows import Column, ModelRows, PredictionColumns
from mshisto_ray.store.table import UserTable, full_cells, read_table

ALL = "all"
# The name of our own tables, whose folder says the model, and that of tile heads'.
_OURS, _RESULT = "predictions", "result"


def read_models(
    paths: Sequence[Path], columns: PredictionColumns, wide: Mapping[str, str]
) -> dict[str, dict[str, ModelRows]]:
    """Read the rows of each group and model.

    Args:
        paths: of the tables.
        columns: names of their columns.
        wide: name of each model and its column (a risk, or a probability) where a row
            holds several models; empty: a row is of one.

    Raises:
        InputError: no table, a column is lacking, no row, or one model in two tables.
    """
    groups: dict[str, dict[str, ModelRows]] = {}
    owner: dict[str, Path] = {}
    for path in paths:
        table = read_table(path, "table of predictions")
        _check_columns(table, columns, wide)
        for rows, group in _split(table, columns, wide):
            if owner.setdefault(rows.model, path) != path:
                raise InputError(
                    f"predictions: model {rows.model!r} is in {owner[rows.model]} and "
                    f"in {path}: rename a file, or give it a column columns.model"
                )
            groups.setdefault(group, {})[rows.model] = rows
    if not groups:
        raise InputError(f"predictions: no row in {', '.join(map(str, paths))}")
    return groups


def _check_columns(
    table: UserTable, columns: PredictionColumns, wide: Mapping[str, str]
) -> None:
    wanted = {"patient_id": columns.patient_id}
    if columns.group:
        wanted["group"] = columns.group
    if columns.time:
        wanted |= {"time": columns.time, "event": columns.event}
        wanted |= {} if wide else {"risk": columns.risk}
    else:
        wanted["target"] = columns.target
    keys = {f"columns.{key}": name for key, name in wanted.items()}
    keys |= {f"models.{name}": column for name, column in wide.items()}
    have = ", ".join(table.columns)
    problems = [
        f"{key}: no column {name!r} in {table.path}; have {have}"
        for key, name in keys.items()
        if name not in table.columns
    ]
    if problems:
        raise InputError("\n".join(problems))


def _split(
    table: UserTable, columns: PredictionColumns, wide: Mapping[str, str]
) -> list[tuple[ModelRows, str]]:
    """The rows of each model and group."""
    groups = _names(table, columns.group, ALL)
    if wide:
        found = []
        for model, column in wide.items():
            cells = {**table.columns, columns.risk: table.columns[column]}
            found += _parts(cells, groups, [model] * table.num_rows, columns)
        return found
    models = _names(table, columns.model, _model_name(table.path))
    return _parts(table.columns, groups, models, columns)


def _parts(
    cells: Mapping[str, Column],
    groups: Sequence[str],
    models: Sequence[str],
    columns: PredictionColumns,
) -> list[tuple[ModelRows, str]]:
    members: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(groups, models, strict=True)):
        members.setdefault(key, []).append(row)
    return [
        (
            ModelRows(
                model,
                columns,
                {name: [column[i] for i in rows] for name, column in cells.items()},
            ),
            group,
        )
        for (group, model), rows in members.items()
    ]


def _names(table: UserTable, column: str | None, otherwise: str) -> list[str]:
    """Cells of a column that has to be full; one value where there is no column."""
    if column is None or column not in table.columns:
        return [otherwise] * table.num_rows
    return full_cells(table.columns[column], column, str(table.path))


def _model_name(path: Path) -> str:
    if path.stem != _OURS:
        return path.stem
    folder = path.parent
    return folder.parent.name if folder.name == _RESULT else folder.name
