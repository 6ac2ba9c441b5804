"""The learning curve of a config: the same test patients, fewer to learn from."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, field_validator

from mshisto_ray.config import Config, option
from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.intervals import interval
from mshisto_ray.learning.predictions import read_predictions, write_predictions
from mshisto_ray.learning.result_files import PREDICTIONS
from mshisto_ray.learning.split import Split
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.thinning import mean_learned, thin_splits
from mshisto_ray.statistics.bootstrap import Interval, percentile_interval
from mshisto_ray.statistics.learning_curve import expected_gain
from mshisto_ray.store.manifest import write_text

Size = Annotated[int, Field(ge=2)] | Annotated[float, Field(gt=0, lt=1)]
CURVE, CURVE_PLOT = "learning_curve.csv", "learning_curve.png"
_FOLDER, _PATIENTS = "learning_curve", "patients.json"
_MORE = 50


class LearningCurveConfig(Config):
    """Sizes of a learning curve."""

    learning_curve: tuple[Size, ...] = option(
        (),
        "two or more shares of the patients that a fold learns from, or numbers of "
        "them, as [0.25, 0.5, 0.75]: the (chosen) config trained on so many, tested on "
        "the same folds",
    )

    @field_validator("learning_curve")
    @classmethod
    def _make_a_curve(cls, sizes: tuple[Size, ...]) -> tuple[Size, ...]:
        if len(set(sizes)) != len(sizes) or len(sizes) == 1:
            raise ValueError(
                "give two or more different sizes, as [0.25, 0.5, 0.75], or []; all "
                f"patients are added to them; got {list(sizes)}"
            )
        return sizes


@dataclass(frozen=True)
class LearningCurve:
    """A metric against K numbers of patients, ascending.

    ``patients``: that a fold learns from, validation included, the mean over folds;
    ``values``: of the metric on all test patients; ``last``: what the last step has
    improved, on the same test patients; ``gain``: what ``more`` patients would improve
    if the curve continues as a power law.
    """

    metric: str
    patients: tuple[float, ...]
    values: tuple[Interval, ...]
    last: Interval
    more: int
    gain: Interval


def write_patients(
    folder: Path, bags: Bags, splits: Sequence[Split], seed: int, sizes: Sequence[Size]
) -> None:
    """Write how many patients a fold learns from at each size, the mean over folds."""
    thinned = {str(size): thin_splits(bags, splits, seed, size) for size in sizes}
    thinned["all"] = list(splits)
    counts = {name: mean_learned(bags, found) for name, found in thinned.items()}
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    text = json.dumps(counts, indent=2)
    write_text(folder / _FOLDER / _PATIENTS, text + "\n")


def missing_sizes(folder: Path, sizes: Sequence[Size]) -> list[Size]:
    """The sizes that a result has no predictions of."""
    return [size for size in sizes if not _file(folder, size).is_file()]


def run_size(
    folder: Path,
    bags: Bags,
    splits: Sequence[Split],
    config: TrainConfig,
    seed: int,
    size: Size,
    on_model: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train a config on fewer patients; write its test predictions beside its result.

    Args:
        folder: of ``experiment.run``.
        bags: with targets.
        splits: of the result.
        config: model and training.
        seed: see ``thin_splits``.
        size: see ``thin_splits``.
        on_model: see ``cross_validate``.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    thinned = thin_splits(bags, splits, seed, size)
    result = cross_validate(bags, thinned, config, device, on_fold=on_model)
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    write_predictions(_file(folder, size), result.test)


def read_curve(
    folder: Path, sizes: Sequence[Size], metric: str
) -> LearningCurve | None:
    """The curve of a result; None where a size has not been trained.

    Intervals hold the trained models fixed: they cover which patients are tested, not
    which of them are learned from.
    """
    file = folder / _FOLDER / _PATIENTS
    if not sizes or missing_sizes(folder, sizes) or not file.is_file():
        return None
    counts = json.loads(file.read_text())
    if not {str(size) for size in sizes} <= set(counts):
        return None
    paths = {counts[str(size)]: _file(folder, size) for size in sizes}
    paths[counts["all"]] = folder / PREDICTIONS
    patients = sorted(paths)
    found = [Estimates(read_predictions(paths[number])) for number in patients]
    values = tuple(interval(estimates, metric) for estimates in found)
    sign = -1 if metric in found[0].kind.lower_is_better else 1
    given = sign * np.array([value.value for value in values])
    drawn = sign * np.stack([estimates.replicates[metric] for estimates in found])
    drawn = drawn[:, np.isfinite(drawn).all(0)]
    more = min(_MORE, round(patients[-1]))
    return LearningCurve(
        metric,
        tuple(patients),
        values,
        percentile_interval(float(given[-1] - given[-2]), drawn[-1] - drawn[-2]),
        more,
        expected_gain(np.array(patients), given, drawn, more),
    )


def _file(folder: Path, size: Size) -> Path:
    return folder / _FOLDER / f"{size}.parquet"


def write_curve(path: Path, curve: LearningCurve) -> None:
    """Write ``patients, value, ci_low, ci_high`` as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["patients", curve.metric, "ci_low", "ci_high"])
        for number, value in zip(curve.patients, curve.values, strict=True):
            ends = (value.value, value.low, value.high)
            writer.writerow([f"{number:g}", *(f"{end:.4f}" for end in ends)])
