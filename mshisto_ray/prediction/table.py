"""Reading ``predictions.parquet``: of ``jobs/predict.py``, or out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.learning.metrics import decide
from mshisto_ray.learning.predictions import Predictions

_PREFIX = "prob_"


@dataclass(frozen=True)
class PredictedBags:
    """A row per bag: its label (None: unknown) and what a head gives each class.

    ``names``, ``patient_ids``, ``targets``: N texts; ``probabilities``: [N, C].
    """

    classes: tuple[str, ...]
    names: Sequence[str]
    patient_ids: Sequence[str]
    targets: Sequence[str | None]
    probabilities: np.ndarray

    @property
    def predicted(self) -> list[str]:
        """Class that each bag is taken for."""
        return [self.classes[code] for code in decide(self.probabilities)]

    def labelled(self) -> Predictions | None:
        """The bags whose label is known, as of one repeat; None: there are none."""
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
