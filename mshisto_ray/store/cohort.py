"""The cohort table: one row per slide; only ``path`` is required."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mshisto_ray.config import InputError, scheme_problem
from mshisto_ray.store.columns import (
    RESERVED,
    ColumnsConfig,
    find_column,
    reserved_columns,
)
from mshisto_ray.store.identity import (
    check_ids,
    doubtful_patient_notes,
    own_patient_note,
)
from mshisto_ray.store.same_slides import explain_same_slides, folder_problem
from mshisto_ray.store.spelling import canonical_number, explain_clashes
from mshisto_ray.store.table import UserTable, read_table


@dataclass(frozen=True)
class CohortSlide:
    """One row of a cohort.

    ``columns`` holds every other column (labels, ``fold``, ...) as text, None where
    the cell is missing; decimal numbers are without trailing zeros.
    """

    slide_id: str
    patient_id: str
    path: Path
    mpp: float | None
    annotation: Path | None
    columns: Mapping[str, str | None]


@dataclass(frozen=True)
class Cohort:
    """A checked cohort; ``notes``: what was read as missing, a line each."""

    path: Path
    rows: tuple[CohortSlide, ...]
    notes: tuple[str, ...] = ()

    @property
    def column_names(self) -> list[str]:
        """Names of the columns that are not reserved: labels, fold and the rest."""
        return list(self.rows[0].columns)

    @property
    def summary(self) -> str:
        """The number of slides and patients, as words."""
        patients = len({row.patient_id for row in self.rows})
        return f"{len(self.rows)} slides, {patients} patients"

    def find(self, name: str) -> str | None:
        """Return the column of this name, or equal but for case; None: there is none.

        Raises:
            InputError: several columns are equal but for case.
        """
        return find_column(self.path, self.column_names, name)

    def column(self, name: str) -> dict[str, str | None]:
        """Return ``{slide_id: value}`` of a column, which ``find`` finds.

        Raises:
            InputError: no such column, or values that differ only by case, spaces or
                leading zeros: two spellings of one class are not two classes.
        """
        found = self.find(name)
        if found is None:
            have = ", ".join(self.column_names) or "none"
            raise InputError(
                f"{self.path}: no column {name!r}; columns besides the reserved ones: "
                f"{have}"
            )
        values = {row.slide_id: row.columns[found] for row in self.rows}
        known = [value for value in values.values() if value is not None]
        problems = explain_clashes(f"{self.path}: column {found!r}", known)
        if problems:
            raise InputError("\n".join(problems))
        return values


def read_cohort(
    path: Path,
    check_files: bool = True,
    columns: ColumnsConfig | None = None,
    section: str = "columns",
) -> Cohort:
    """Read and check a cohort (CSV or Parquet); all problems are reported together.

    Slide and annotation paths may be relative to the cohort file's folder.

    Args:
        path: the table; see ``store.table.read_table``.
        check_files: whether slides and annotations must exist, each slide once
            (training and evaluation need only ids and labels).
        columns: names of columns that are not the reserved ones.
        section: the config's key of ``columns``, for messages.

    Raises:
        InputError: one line per problem, with the row it is in.
    """
    table = read_table(path, "cohort")
    names = list(table.columns)
    given = columns or ColumnsConfig()
    found = reserved_columns(path, names, given, RESERVED, ("path",), section)
    if not table.num_rows:
        raise InputError(f"{path}: the cohort has no rows; give one per slide")
    others = _other_columns(names, found)
    problems: list[str] = []
    rows: list[CohortSlide] = []
    stated: list[str | None] = []
    for i in range(table.num_rows):
        record = {key: table.columns[name][i] for key, name in found.items()}
        rest = {key: table.columns[name][i] for key, name in others.items()}
        row, wrong = _row(record, rest, path.parent, f"row {i + 1}", check_files)
        problems += wrong
        rows += [row] if row else []
        stated += [record.get("patient_id")] if row else []
    problems += _duplicates(rows)
    if check_files:
        problems += explain_same_slides([(row.slide_id, row.path) for row in rows])
    problems += check_ids([row.slide_id for row in rows], stated, "slide_id")
    if problems:
        raise InputError("\n".join(f"{path}: {problem}" for problem in problems))
    return Cohort(path, tuple(rows), _notes(table, found, stated))


def _other_columns(names: Sequence[str], found: Mapping[str, str]) -> dict[str, str]:
    """Return the columns besides the reserved ones, and the fold, by name."""
    fold = found.get("fold")
    others = {
        "fold" if name.casefold() == "fold" else name: name
        for name in names
        if name.casefold() not in RESERVED or name == fold
    }
    return others | ({"fold": fold} if fold else {})


def _notes(
    table: UserTable, found: Mapping[str, str], stated: Sequence[str | None]
) -> tuple[str, ...]:
    notes = table.notes(table.columns)
    if "patient_id" not in found:
        notes.append(
            f"{table.path}: no column patient_id: each slide is its own patient"
        )
    else:
        said = own_patient_note(stated, "slides")
        said += doubtful_patient_notes(stated, "slides")
        notes += [f"{table.path}: {note}" for note in said]
    return tuple(notes)


def _row(
    record: Mapping[str, str | None],
    others: Mapping[str, str | None],
    folder: Path,
    where: str,
    check_files: bool,
) -> tuple[CohortSlide | None, list[str]]:
    text = record["path"]
    if not text:
        return None, [f"{where}: path is empty"]
    path = folder / Path(text).expanduser()
    slide_id = record.get("slide_id") or path.stem
    wrong = []
    scheme = scheme_problem(text) if check_files else None
    if scheme:
        wrong.append(f"{where} ({slide_id}): {scheme}")
    elif check_files and not path.exists():
        wrong.append(f"{where} ({slide_id}): no such slide file: {path}")
    folder_is = folder_problem(path) if check_files else None
    if folder_is:
        wrong.append(f"{where} ({slide_id}): {folder_is}")
    annotation = record.get("annotation")
    annotation_path = folder / Path(annotation).expanduser() if annotation else None
    if check_files and annotation_path and not annotation_path.is_file():
        wrong.append(f"{where} ({slide_id}): no such annotation: {annotation_path}")
    mpp, problem = _mpp(record.get("mpp"))
    if problem:
        wrong.append(f"{where} ({slide_id}): {problem}")
    columns = {k: v and canonical_number(v) for k, v in others.items()}
    patient = record.get("patient_id") or slide_id
    row = CohortSlide(slide_id, patient, path, mpp, annotation_path, columns)
    return row, wrong


def _mpp(text: str | None) -> tuple[float | None, str | None]:
    if text is None:
        return None, None
    try:
        value = float(text)
    except ValueError:
        point = f"; write {text.replace(',', '.')}" if "," in text else ""
        return None, f"mpp {text!r} is not a number (micrometres per pixel){point}"
    if not 0 < value < float("inf"):
        return None, f"mpp {text!r} must be above 0 (micrometres per pixel)"
    return value, None


def _duplicates(rows: Sequence[CohortSlide]) -> list[str]:
    counts = Counter(row.slide_id for row in rows)
    return [
        f"slide_id {slide_id!r} is used in {count} rows; give each slide its own "
        "slide_id (the default is the file's name without its ending)"
        for slide_id, count in counts.items()
        if count > 1
    ]


def slide_to_json(row: CohortSlide) -> dict[str, Any]:
    """A cohort row as plain JSON values, to send to a worker."""
    return json.loads(json.dumps(asdict(row), default=str))


def slide_from_json(values: Mapping[str, Any]) -> CohortSlide:
    """A cohort row from its plain JSON values."""
    annotation = Path(values["annotation"]) if values["annotation"] else None
    changed = {"path": Path(values["path"]), "annotation": annotation}
    return CohortSlide(**{**values, **changed})
