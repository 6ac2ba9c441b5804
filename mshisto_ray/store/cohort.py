"""The cohort table: one row per slide; only ``path`` is required."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mshisto_ray.config import InputError

_RESERVED = ("slide_id", "patient_id", "path", "mpp", "annotation")
# Shard and overview files are named after the slide: no separators, no characters
# that a shell, Windows or an object store treats specially, no hidden files.
_SAFE_ID = re.compile(r"[^\s./\\:*?\"<>|%&;$'`~-][^/\\:*?\"<>|%&;$'`~\x00-\x1f]{0,199}")


@dataclass(frozen=True)
class CohortSlide:
    """One row of a cohort.

    ``columns`` holds every other column (labels, ``fold``, ...) as text, None where
    the cell is empty.
    """

    slide_id: str
    patient_id: str
    path: Path
    mpp: float | None
    annotation: Path | None
    columns: Mapping[str, str | None]


@dataclass(frozen=True)
class Cohort:
    """A checked cohort."""

    path: Path
    rows: tuple[CohortSlide, ...]

    @property
    def column_names(self) -> list[str]:
        """Names of the columns that are not reserved: labels, fold and the rest."""
        return list(self.rows[0].columns)

    def column(self, name: str) -> dict[str, str | None]:
        """``{slide_id: value}`` of a column; InputError lists the columns."""
        if name not in self.column_names:
            have = ", ".join(self.column_names) or "none"
            raise InputError(
                f"{self.path}: no column {name!r}; columns besides the reserved ones: "
                f"{have}"
            )
        return {row.slide_id: row.columns[name] for row in self.rows}


def read_cohort(path: Path, check_files: bool = True) -> Cohort:
    """Read and check a cohort (CSV or Parquet); all problems are reported together.

    Slide and annotation paths may be relative to the cohort file's folder.

    Args:
        path: the table.
        check_files: whether slides and annotations must exist (training and
            evaluation need only ids and labels).

    Raises:
        InputError: one line per problem, with the row it is in.
    """
    frame = _read_table(path)
    if "path" not in frame.columns:
        raise InputError(f"{path}: no column 'path'; have {', '.join(frame.columns)}")
    if not len(frame):
        raise InputError(f"{path}: the cohort has no rows; give one per slide")
    problems: list[str] = []
    rows: list[CohortSlide] = []
    for number, cells in enumerate(frame.to_dict("records"), start=1):
        record = {str(name): _text(cell) for name, cell in cells.items()}
        row, wrong = _row(record, path.parent, f"row {number}", check_files)
        problems += wrong
        rows += [row] if row else []
    problems += _duplicates(rows)
    if problems:
        raise InputError("\n".join(f"{path}: {problem}" for problem in problems))
    return Cohort(path, tuple(rows))


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: no such cohort file (CSV or Parquet)")
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame.columns = frame.columns.str.strip()
        return frame
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: empty file; a cohort needs a header") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable CSV or Parquet: {error}") from None


def _text(value: object) -> str | None:
    """A cell as text, None if empty; integers read as floats lose their .0."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    return text or None


def _row(
    record: Mapping[str, str | None], folder: Path, where: str, check_files: bool
) -> tuple[CohortSlide | None, list[str]]:
    text = record["path"]
    if not text:
        return None, [f"{where}: path is empty"]
    path = folder / Path(text).expanduser()
    slide_id = record.get("slide_id") or path.stem
    wrong = []
    if not _SAFE_ID.fullmatch(slide_id):
        wrong.append(
            f"{where}: slide_id {slide_id!r} is not safe as a file name: use letters, "
            "digits, '_', '.', '-', starting with a letter or digit"
        )
    if check_files and not path.exists():
        wrong.append(f"{where} ({slide_id}): no such slide file: {path}")
    annotation = record.get("annotation")
    annotation_path = folder / Path(annotation).expanduser() if annotation else None
    if check_files and annotation_path and not annotation_path.is_file():
        wrong.append(f"{where} ({slide_id}): no such annotation: {annotation_path}")
    mpp, problem = _mpp(record.get("mpp"))
    if problem:
        wrong.append(f"{where} ({slide_id}): {problem}")
    columns = {k: v for k, v in record.items() if k not in _RESERVED}
    patient = record.get("patient_id") or slide_id
    row = CohortSlide(slide_id, patient, path, mpp, annotation_path, columns)
    return row, wrong


def _mpp(text: str | None) -> tuple[float | None, str | None]:
    if text is None:
        return None, None
    try:
        value = float(text)
    except ValueError:
        return None, f"mpp {text!r} is not a number (micrometres per pixel)"
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
