"""One model's rows of a table of predictions, as risks or as probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.risks import Risks
from mshisto_ray.store.table import full_cells

PREFIX = "prob_"
_EVENT = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_SHOWN = 3
_TILE = ("slide_id", "mpp", "row", "col")
Column = Sequence[str | None]


class PredictionColumns(Config):
    """Names of a table's columns."""

    group: str | None = option(
        None, "of cohorts that are compared one by one; null: all rows are one"
    )
    model: str = option("model", "of models; a file without it is of one model")
    patient_id: str = option("patient_id", "of patients")
    fold: str = option("fold", "of folds; a table without it is one fold")
    repeat: str = option("repeat", "of classes: of repeats, if there are several")
    bag: str | None = option(
        None,
        "of classes: of bags; null: `bag`, a tile's slide_id, mpp, row and col, "
        "`slide_id`, or the patient",
    )
    target: str = option("target", "of classes: the true one")
    time: str | None = option(
        None, "of survival: of the event or the last observation; null: classes"
    )
    event: str = option("event", "of survival: 1 for the event, 0 for censored")
    risk: str = option("risk", "of survival: higher for an earlier event")


@dataclass(frozen=True)
class ModelRows:
    """Rows [N] that one model predicted.

    ``model``: its name; ``columns``: names of columns; ``cells``: of each, [N].
    """

    model: str
    columns: PredictionColumns
    cells: Mapping[str, Column]

    def risks(self) -> Risks:
        """Risks by patient and fold; several rows of both are averaged.

        Raises:
            InputError: an empty cell, no number, or a patient of several outcomes.
        """
        names = self.columns
        assert names.time is not None
        patient, fold = np.array(self._full(names.patient_id)), self._folds()
        time = self._numbers(names.time, "time")
        risk = self._numbers(names.risk, "number")
        event = np.array([self._event(cell) for cell in self._full(names.event)])
        keys = np.array([f"{p}\0{f}" for p, f in zip(patient, fold, strict=True)])
        _, first, code = np.unique(keys, return_index=True, return_inverse=True)
        unlike = (time != time[first][code]) | (event != event[first][code])
        if unlike.any():
            odd = str(patient[unlike][0])
            raise InputError(
                f"model {self.model!r}: patient {odd!r} has rows of different "
                f"{names.time} or {names.event}"
            )
        mean = np.bincount(code, risk) / np.bincount(code)
        return Risks(patient[first], fold[first], time[first], event[first], mean)

    def probabilities(self) -> Predictions:
        """Probabilities of the columns ``prob_<class>``.

        Raises:
            InputError: an empty cell, no share, or a target that has no column.
        """
        classes = [n[len(PREFIX) :] for n in self.cells if n.startswith(PREFIX)]
        target = self._full(self.columns.target)
        unknown = sorted(set(target) - set(classes))
        if len(classes) < 2 or unknown:
            have = ", ".join(PREFIX + name for name in classes) or "none"
            what = ", ".join(map(repr, unknown[:_SHOWN])) or "classes"
            raise InputError(
                f"model {self.model!r}: column {self.columns.target!r} has {what}, and "
                f"every class needs a column {PREFIX}<class>; have {have}"
            )
        given = [self._numbers(PREFIX + name, "share") for name in classes]
        return self._predictions(classes, target, np.stack(given, 1))

    def of_positive(self, positive: str | None) -> Predictions:
        """Probabilities of two classes from the one of ``positive``.

        It is in the column that ``risk`` names.

        Raises:
            InputError: see ``probabilities``; or the targets are not two classes.
        """
        target = self._full(self.columns.target)
        others = sorted(set(target) - {positive})
        if positive is None or positive not in target or len(others) != 1:
            have = ", ".join(map(repr, sorted(set(target))[:_SHOWN]))
            raise InputError(
                f"positive: {positive!r}, and column {self.columns.target!r} has "
                f"{have}: models in columns need two classes, and which of them the "
                "probability is of"
            )
        given = self._numbers(self.columns.risk, "share")
        both = np.stack([1 - given, given], 1)
        return self._predictions([others[0], positive], target, both)

    def _predictions(
        self, classes: Sequence[str], target: Sequence[str], given: np.ndarray
    ) -> Predictions:
        patient = np.array(self._full(self.columns.patient_id), dtype=object)
        bag = self._bags(patient)
        codes = {name: index for index, name in enumerate(classes)}
        folds = np.unique(self._folds(), return_inverse=True)[1]
        repeats = np.zeros(len(target), int)
        if self.columns.repeat in self.cells:
            known = [cell or "" for cell in self.cells[self.columns.repeat]]
            repeats = np.unique(known, return_inverse=True)[1]
        return Predictions(
            tuple(classes),
            bag=np.array(bag, dtype=object),
            slide_id=np.array(bag, dtype=object),
            patient_id=patient,
            target=np.array([codes[name] for name in target]),
            fold=folds,
            repeat=repeats,
            probabilities=given,
        )

    def _bags(self, patient: np.ndarray) -> Sequence[str] | np.ndarray:
        """What each row is of, [N]."""
        is_unnamed = self.columns.bag is None and "bag" not in self.cells
        if is_unnamed and set(_TILE) <= set(self.cells):
            parts = [self._full(name) for name in _TILE]
            return [" ".join(cells) for cells in zip(*parts, strict=True)]
        names = (self.columns.bag,) if self.columns.bag else ("bag", "slide_id")
        return next((self._full(n) for n in names if n in self.cells), patient)

    def _folds(self) -> np.ndarray:
        """Text [N]; empty where the cell is."""
        size = len(next(iter(self.cells.values())))
        return np.array(
            [c or "" for c in self.cells.get(self.columns.fold, [""] * size)]
        )

    def _full(self, column: str) -> list[str]:
        return full_cells(self.cells[column], column, f"model {self.model!r}")

    def _numbers(
        self, column: str, kind: Literal["number", "time", "share"]
    ) -> np.ndarray:
        """Finite numbers [N]: any, from 0 on, or from 0 to 1."""
        least, most = {"number": (-np.inf, np.inf), "time": (0, np.inf)}.get(
            kind, (0, 1)
        )
        found = []
        for cell in self._full(column):
            try:
                value = float(cell)
            except ValueError:
                value = np.nan
            if not np.isfinite(value) or not least <= value <= most:
                need = {"number": "a finite number", "time": "a number from 0 on"}
                raise InputError(
                    f"model {self.model!r}: column {column!r} has {cell!r}, and needs "
                    f"{need.get(kind, 'a number from 0 to 1')}"
                )
            found.append(value)
        return np.array(found)

    def _event(self, cell: str) -> bool:
        if cell.lower() not in _EVENT:
            raise InputError(
                f"model {self.model!r}: column {self.columns.event!r} has {cell!r}, "
                "and needs 1 (the event) or 0 (censored)"
            )
        return _EVENT[cell.lower()]
