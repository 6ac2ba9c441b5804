"""The learning curve of a config: the same test patients, fewer to learn from."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from mshisto_ray.config import Config, option
from mshisto_ray.learning.intervals import estimate, interval
from mshisto_ray.learning.labelled import LabelledRows
from mshisto_ray.learning.predictions import add_predictions, read_predictions
from mshisto_ray.learning.retraining.thinning import mean_learned, thin_splits
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.sweep.experiment import Experiment, OnFold
from mshisto_ray.statistics.bootstrap import Interval, percentile_interval
from mshisto_ray.statistics.learning_curve import expected_gain
from mshisto_ray.store.manifest import write_text
from mshisto_ray.store.shards import ShardWriter

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

    @field_validator("learning_curve", mode="before")
    @classmethod
    def _are_sizes(cls, sizes: Any) -> Any:
        listed = sizes if isinstance(sizes, list | tuple) else []
        wrong = [one for one in listed if not _is_size(one)]
        if wrong:
            raise ValueError(
                "a size is a share of the patients below 1 or a number of them from 2; "
                f"got {', '.join(map(repr, wrong))}"
            )
        return sizes

    @field_validator("learning_curve")
    @classmethod
    def _make_a_curve(cls, sizes: tuple[Size, ...]) -> tuple[Size, ...]:
        if len(set(sizes)) != len(sizes) or len(sizes) == 1:
            raise ValueError(
                "give two or more different sizes, as [0.25, 0.5, 0.75], or []; all "
                f"patients are added to them; got {list(sizes)}"
            )
        return sizes


def _is_size(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < 1 or (value >= 2 and value % 1 == 0)


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
    folder: Path,
    rows: LabelledRows,
    splits: Sequence[Split],
    seed: int,
    sizes: Sequence[Size],
) -> None:
    """Write how many patients a fold learns from at each size, the mean over folds."""
    thinned = {str(size): thin_splits(rows, splits, seed, size) for size in sizes}
    thinned["all"] = list(splits)
    counts = {name: mean_learned(rows, found) for name, found in thinned.items()}
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    text = json.dumps(counts, indent=2)
    write_text(folder / _FOLDER / _PATIENTS, text + "\n")


def missing_sizes(folder: Path, sizes: Sequence[Size]) -> list[Size]:
    """The sizes that a result has no predictions of."""
    return [size for size in sizes if not _file(folder, size).is_file()]


def run_size(
    folder: Path,
    data: Any,
    splits: Sequence[Split],
    config: Experiment,
    size: Size,
    on_model: OnFold = lambda done, total: None,
) -> None:
    """Train a config on fewer patients; write its test predictions beside its result.

    Args:
        folder: of the result.
        data: of the config.
        splits: of the result.
        config: model and training; its folds' seed is that of ``thin_splits``.
        size: see ``thin_splits``.
        on_model: called with the number of models done and the number of all.
    """
    seed = config.split_config.seed
    thinned = thin_splits(config.rows(data), splits, seed, size)
    with ShardWriter(_file(folder, size)) as writer:
        for test, _ in config.held_out(data, thinned, on_model):
            add_predictions(writer, test)


def read_curve(
    folder: Path, sizes: Sequence[Size], metric: str, config: Experiment
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
    thin = {counts[str(size)]: read_predictions(_file(folder, size)) for size in sizes}
    each = {num: replace(part, kind=config.kind) for num, part in thin.items()}
    each[counts["all"]] = config.read_test(folder)
    patients = sorted(each)
    found = [estimate(each[number]) for number in patients]
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
