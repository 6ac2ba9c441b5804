"""A cancer of TCGA: its patients, their expressions, and what can be learned of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mshisto_ray.config import InputError
from mshisto_ray.mil.input.table import read_bag_table
from mshisto_ray.store.spelling import canonical_number
from mshisto_ray.store.table import full_cells, read_table
from mshisto_ray.studies import _study

BLANK = 0.1  # share of the labels of mutations that are taken away
_MUTATION = "_mut"
_USED = ("site", "age", "months", "event", "oncotree_code")
_GRADES = ("ASTR", "AASTR", "GBM")  # of astrocytomas
# Of five folds each then has some two, or a class some ten.
_LEAST_EVENTS, _LEAST_PATIENTS = 10, 50


@dataclass(frozen=True)
class TcgaCohort:
    """P patients: those with expressions, where there is a table of them.

    ``columns``: cells of each, as text, None where missing; ``expressions``: float32
    [P, G], arsinh, None without a table; ``digests``: of the files.
    """

    cancer: str
    patients: tuple[str, ...]
    columns: Mapping[str, Sequence[str | None]]
    expressions: np.ndarray | None
    digests: Mapping[str, str]

    def bags(self) -> pa.Table:
        """A bag of one instance a patient, with all columns."""
        assert self.expressions is not None
        names = list(self.patients)
        features = list(self.expressions)
        own = {"bag": names, "patient_id": names, "features": features}
        cells = {n: pa.array(c, pa.string()) for n, c in self.columns.items()}
        return pa.table({**cells, **own})


@dataclass(frozen=True)
class Task:
    """A target of a cancer.

    ``patients``: who have a value; ``target``: keys of a config, None where too few
    have one, for the ``reason``.
    """

    patients: int
    target: Mapping[str, Any] | None
    reason: str = ""


def cancers_of(data: Path) -> tuple[str, ...]:
    """Names of the cancers that a folder has a cohort of."""
    paths = sorted(data.glob("cohort_*.csv"))
    if not paths:
        raise InputError(f"data: no cohort_<cancer>.csv in {data}")
    return tuple(path.stem.removeprefix("cohort_") for path in paths)


def read_tcga(data: Path, cancer: str) -> TcgaCohort:
    """Read ``cohort_<cancer>.csv`` and, where there is one, ``rna_<cancer>.parquet``.

    Expressions are standardised but have values of several hundred; arsinh is linear
    near 0 and logarithmic far from it, the same for every patient and gene. A tenth of
    the labels of mutations is blanked, and ``grade`` added.

    Raises:
        InputError: no cohort; a patient with two values in a column, or with
            expressions and no row; tables that cannot be read.
    """
    path, rna = data / f"cohort_{cancer}.csv", data / f"rna_{cancer}.parquet"
    if not path.is_file():
        raise InputError(f"data: no {path.name} in {data}")
    rows = _patients(path)
    digests = {"cohort": _study.fingerprint(path)}
    names, values = list(rows), None
    if rna.is_file():
        table = read_bag_table(rna, ())
        names = list(table.features.slide_ids)
        _check_one_each(rna, table.features.counts)
        values = np.arcsinh(table.features.values)
        digests["rna"] = table.digest
        lost = [name for name in names if name not in rows]
        if lost:
            raise InputError(
                f"{rna}: {len(lost)} of {len(names)} patients have no row in "
                f"{path.name} ({', '.join(lost[:3])}), which names them as "
                f"{next(iter(rows))}: add their rows, write names alike, or leave "
                "them out"
            )
    return TcgaCohort(cancer, tuple(names), _columns(rows, names), values, digests)


def _patients(path: Path) -> dict[str, dict[str, str | None]]:
    """Cells of the columns that are used, by patient, who may have several rows."""
    table = read_table(path, "cohort")
    if "patient_id" not in table.columns or not table.num_rows:
        problem = "no rows" if "patient_id" in table.columns else "no column patient_id"
        raise InputError(f"{path}: {problem}; a cohort has patient_id and targets")
    names = full_cells(table.columns["patient_id"], "patient_id", str(path))
    used = [n for n in table.columns if n in _USED or n.endswith(_MUTATION)]
    found: dict[str, dict[str, str | None]] = {}
    for place, name in enumerate(names):
        cells = [table.columns[column][place] for column in used]
        texts = [None if cell is None else canonical_number(cell) for cell in cells]
        row = dict(zip(used, texts, strict=True))
        for column, cell in found.setdefault(name, row).items():
            if cell != row[column]:
                raise InputError(
                    f"{path}: patient {name!r} has two values in column {column!r} "
                    f"({cell!r} and {row[column]!r}); a patient has one"
                )
    return found


def _check_one_each(path: Path, counts: np.ndarray) -> None:
    several = int((counts != 1).sum())
    if several:
        raise InputError(
            f"{path}: {several} patients have several rows of expressions; leave one"
        )


def _columns(
    rows: Mapping[str, Mapping[str, str | None]], names: Sequence[str]
) -> dict[str, list[str | None]]:
    rng = np.random.default_rng(0)
    columns: dict[str, list[str | None]] = {}
    for column in next(iter(rows.values())):
        cells = [rows[name][column] for name in names]
        if column.endswith(_MUTATION):
            blank = rng.random(len(cells)) < BLANK
            cells = [None if b else c for b, c in zip(blank, cells, strict=True)]
        columns[column] = cells
    codes = columns.get("oncotree_code", [None] * len(names))
    grades = [n for n in _GRADES if codes.count(n) >= _LEAST_PATIENTS]
    columns["grade"] = [code if code in grades else None for code in codes]
    return columns


def tasks_of(cohort: TcgaCohort) -> dict[str, Task]:
    """Survival, mutations, age, histology and grade of a cancer, in this order."""
    found = {
        "survival": _survival(cohort),
        "mutations": _mutations(cohort),
        "age": _age(cohort),
        "histology": _histology(cohort),
        "grade": _grade(cohort),
    }
    if cohort.expressions is not None:
        return found
    without = f"no rna_{cohort.cancer}.parquet"
    return {name: Task(task.patients, None, without) for name, task in found.items()}


def _survival(cohort: TcgaCohort) -> Task:
    months, events = (cohort.columns.get(name, ()) for name in ("months", "event"))
    pairs = [p for p in zip(months, events, strict=False) if None not in p]
    num = sum(event != "0" for _, event in pairs)  # the target refuses other words
    target = {"kind": "survival", "time": "months", "event": "event"}
    return _task(len(pairs), target, num >= _LEAST_EVENTS, f"{num} events")


def _mutations(cohort: TcgaCohort) -> Task:
    columns = {n: c for n, c in cohort.columns.items() if n.endswith(_MUTATION)}
    labels = [
        name
        for name, cells in columns.items()
        for zeros in [cells.count("0")]
        if min(zeros, len(cells) - cells.count(None) - zeros) >= _LEAST_EVENTS
    ]
    rows = zip(*(columns[name] for name in labels), strict=True)
    num = sum(any(cell is not None for cell in row) for row in rows)
    target = {"kind": "multilabel", "labels": labels}
    few = f"no gene with {_LEAST_EVENTS} patients of either kind"
    return _task(num, target, bool(labels), few)


def _age(cohort: TcgaCohort) -> Task:
    num = sum(cell is not None for cell in cohort.columns.get("age", ()))
    target = {"kind": "regression", "column": "age"}
    return _task(num, target, num >= _LEAST_PATIENTS, f"{num} patients with an age")


def _histology(cohort: TcgaCohort) -> Task:
    counts = Counter(c for c in cohort.columns.get("oncotree_code", ()) if c)
    classes = sorted(n for n, num in counts.items() if num >= _LEAST_PATIENTS)
    few = f"fewer than two histologies of {_LEAST_PATIENTS} patients"
    target = {"column": "oncotree_code", "classes": classes, "others": "leave_out"}
    num = sum(counts[name] for name in classes)
    return _task(num, target, len(classes) > 1, few)


def _grade(cohort: TcgaCohort) -> Task:
    known = [cell for cell in cohort.columns["grade"] if cell is not None]
    classes = [name for name in _GRADES if name in known]
    target = {"kind": "ordinal", "column": "grade", "classes": classes}
    few = f"fewer than two grades of {_LEAST_PATIENTS} patients"
    return _task(len(known), target, len(classes) > 1, few)


def _task(patients: int, target: Mapping[str, Any], is_enough: bool, few: str) -> Task:
    return Task(patients, target) if is_enough else Task(patients, None, few)
