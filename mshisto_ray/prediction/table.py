"""Reading ``predictions.parquet``: of ``mshisto predict``, or out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.learning.metrics import decide
from mshisto_ray.learning.predictions import Predictions, read_kind
from mshisto_ray.learning.targets import Target

_PREFIX = "prob_"


@dataclass(frozen=True)
class PredictedBags:
    """A row per bag: its label (None: unknown) and what a head gives each class.

    ``names``, ``patient_ids``, ``targets``: N texts; ``probabilities``: [N, C]. Where
    the target is not classes these are its values, and ``known`` are the bags whose
    target is known.
    """

    classes: tuple[str, ...]
    names: Sequence[str]
    patient_ids: Sequence[str]
    targets: Sequence[str | None]
    probabilities: np.ndarray
    known: Predictions | None = None

    @property
    def predicted(self) -> list[str]:
        """Class that each bag is taken for."""
        return [self.classes[code] for code in decide(self.probabilities)]

    def labelled(self) -> Predictions | None:
        """The bags whose label is known, as of one repeat; None: there are none."""
        if self.known is not None:
            return self.known if len(self.known) else None
        rows = [i for i, target in enumerate(self.targets) if target is not None]
        if not rows:
            return None
        zeros = np.zeros(len(rows), np.int32)

        def text(values: Sequence[str]) -> np.ndarray:
            return np.array([values[row] for row in rows], dtype=object)

        codes = [self.classes.index(str(self.targets[row])) for row in rows]
        return Predictions(
            self.classes,
            bag=text(self.names),
            slide_id=np.full(len(rows), None, dtype=object),
            patient_id=text(self.patient_ids),
            target=np.array(codes, np.int64),
            fold=zeros,
            repeat=zeros,
            probabilities=self.probabilities[rows],
        )


def read_predicted(path: Path) -> PredictedBags:
    """Read a table of predictions; several rows of a bag are averaged.

    Raises:
        InputError: no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such predictions table")
    table = pq.read_table(path)
    found = read_kind(path)
    if found:
        return _read_values(table, *found)
    columns = [name for name in table.column_names if name.startswith(_PREFIX)]
    names = np.array(table["bag"].to_pylist(), dtype=str)
    bags, first, place = np.unique(names, return_index=True, return_inverse=True)
    values = np.stack([table[name].to_numpy() for name in columns], 1)
    sums = np.zeros((len(bags), len(columns)))
    np.add.at(sums, place, values)
    rows = table.take(first)
    return PredictedBags(
        tuple(name.removeprefix(_PREFIX) for name in columns),
        bags.tolist(),
        rows["patient_id"].to_pylist(),
        rows["target"].to_pylist(),
        sums / np.bincount(place)[:, None],
    )


def _read_values(
    table: pa.Table, kind: Target, names: tuple[str, ...]
) -> PredictedBags:
    """Of a target that is not classes, as ``mshisto predict`` writes it."""
    truth_names = list(kind.truth_columns(_no_truth(kind, names), names))
    missing = np.all([table[n].is_null().to_numpy() for n in truth_names], axis=0)
    labelled = table.filter(pa.array(~missing))
    truth, own = kind.read(labelled, names)
    zeros = np.zeros(labelled.num_rows, np.int32)

    def text(name: str) -> np.ndarray:
        return np.array(labelled[name].to_pylist(), dtype=object)

    known = Predictions(
        names,
        text("bag"),
        text("slide_id"),
        text("patient_id"),
        truth,
        zeros,
        zeros,
        own,
        kind,
    )
    return PredictedBags(
        names,
        table["bag"].to_pylist(),
        table["patient_id"].to_pylist(),
        [None] * table.num_rows,
        own[:0],
        known,
    )


def _no_truth(kind: Target, names: tuple[str, ...]) -> np.ndarray:
    return kind.later([], [], names)[1]
