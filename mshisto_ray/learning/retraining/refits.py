"""Refits: patients drawn anew, models trained on them, tested on those left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mshisto_ray.learning.intervals import estimate
from mshisto_ray.learning.labelled import LabelledRows
from mshisto_ray.learning.predictions import (
    Predictions,
    add_predictions,
    folds_of,
    read_predictions,
)
from mshisto_ray.learning.split import Split, SplitConfig, set_aside
from mshisto_ray.learning.sweep.experiment import Experiment, OnFold
from mshisto_ray.learning.sweep.nested_choice import best_within_folds, fold_scores
from mshisto_ray.learning.targets import Target
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.statistics.refits import (
    TrainingVariance,
    training_variance,
    widened,
)
from mshisto_ray.store.shards import ShardWriter

_TEST, _VALIDATION = "refits_test.parquet", "refits_validation.parquet"
_STREAM = 2  # separates their random numbers from those of folds and inner splits
_TRIES = 100
_FROM_0_TO_1 = (
    "auroc", "pr_auc", "accuracy", "balanced_accuracy", "f1", "weighted_f1", "c_index",
    "uno_c", "auc", "brier",
)  # fmt: skip


@dataclass(frozen=True)
class RefitInterval:
    """An interval that includes training and choosing, beside that of held models.

    ``num``: of refits; ``variance``: over them; ``num_configs``: how many different
    ones they chose.
    """

    num: int
    held: Interval
    interval: Interval
    variance: TrainingVariance
    num_configs: int


def draw_refits(rows: LabelledRows, config: SplitConfig, num: int) -> list[Split]:
    """Splits of ``num`` refits, numbered as folds.

    Patients (or what ``rows.owners`` are) are drawn with replacement, as many as there
    are; a patient drawn twice trains twice. Of the drawn a share is set aside for
    validation, each once. Those left out are tested. A draw whose parts lack what the
    target needs is made again.
    """
    of, usable = rows.owners, rows.usable
    present, total = np.unique(of[usable]), 1 + of.max(initial=0)
    strata = rows.kind.strata(rows.targets, rows.classes, 2).of

    def draw(number: int, attempt: int) -> Split:
        rng = np.random.default_rng([config.seed, number, attempt, _STREAM])
        drawn = np.bincount(rng.choice(present, len(present)), minlength=total)
        learned = np.flatnonzero(usable & (drawn[of] > 0))
        train, validation = set_aside(config, of, strata, learned, rng)
        test = np.flatnonzero(usable & (drawn[of] == 0))
        return Split(0, number, train.repeat(drawn[of][train]), validation, test)

    found = []
    for number in range(num):
        draws = (draw(number, attempt) for attempt in range(_TRIES))
        found.append(next((s for s in draws if _is_whole(rows, s)), draw(number, 0)))
    return found


def _is_whole(rows: LabelledRows, split: Split) -> bool:
    lacks = [
        rows.kind.lack(rows.targets[part], rows.classes, learns)
        for part, learns in (
            (split.train, True), (split.validation, False), (split.test, False),
        )
    ]  # fmt: skip
    return not any(lacks)


def run_refits(
    folder: Path,
    data: Any,
    config: Experiment,
    num: int,
    on_model: OnFold = lambda done, total: None,
) -> None:
    """Train one config in every refit; write its predictions beside its result."""
    splits = draw_refits(config.rows(data), config.split_config, num)
    # The outer one is complete last: it says that the refits are.
    with (
        ShardWriter(folder / _TEST) as tested,
        ShardWriter(folder / _VALIDATION) as validated,
    ):
        for test, validation in config.held_out(data, splits, on_model):
            assert validation is not None
            add_predictions(validated, validation)
            add_predictions(tested, test)


def num_refits(folder: Path) -> int:
    """Refits that a result has; 0 without any."""
    path = folder / _TEST
    return len(folds_of(path)) if path.is_file() else 0


def refit_interval(
    folders: Mapping[str, Path], held: Interval, metric: str, kind: Target
) -> RefitInterval | None:
    """The interval of training and choosing as a sweep does.

    In every refit the config that is best on its own validation patients is chosen.

    Args:
        folders: of all configs, in the order of the axes.
        held: value and interval of the trained models.
        metric: that chooses.
        kind: the target.

    Returns:
        None where a config has no refits.
    """
    if not all(num_refits(path) for path in folders.values()):
        return None

    def read(path: Path, fold: int) -> Predictions:
        return replace(read_predictions(path, fold), kind=kind)

    # One model after the other: predictions of many tiles are large.
    scores = {
        name: {
            model: score
            for fold in folds_of(path / _VALIDATION)
            for model, score in fold_scores(
                read(path / _VALIDATION, fold), metric
            ).items()
        }
        for name, path in folders.items()
    }
    chosen = best_within_folds(scores, metric in kind.lower_is_better)
    tested: dict[int, tuple[float, float, set[str]]] = {}
    for (_, fold), name in chosen.items():
        part = read(folders[name] / _TEST, fold)
        tested[fold] = *_estimate(part, metric), set(part.patient_id.tolist())
    everyone = set().union(*(patients for *_, patients in tested.values()))
    order = [tested[fold] for _, fold in chosen]
    values, variances = (np.array(c) for c in list(zip(*order, strict=True))[:2])
    shares = np.array([len(patients) / len(everyone) for *_, patients in order])
    found = training_variance(values, variances, shares)
    wide = widened(held, found.factor, metric in _FROM_0_TO_1)
    return RefitInterval(len(order), held, wide, found, len(set(chosen.values())))


def _estimate(part: Predictions, metric: str) -> tuple[float, float]:
    """Value of a metric, and its variance with the models held."""
    estimates = estimate(part)
    if part.kind.of_classes:
        return estimates.values[metric], estimates.variance(metric)[0]
    drawn = estimates.replicates[metric]
    usable = drawn[np.isfinite(drawn)]
    variance = float(usable.var(ddof=1)) if len(usable) > 1 else np.nan
    return estimates.values[metric], variance


def about_refits(found: RefitInterval, metric: str) -> str:
    """Both intervals, and how much that of held models leaves out."""
    held, wide, spread = found.held, found.interval, found.variance

    def ends(interval: Interval) -> str:
        return f"{interval.low:.3f} to {interval.high:.3f}"

    share = spread.training / (spread.training + spread.held)
    return (
        f"Trained and chosen anew on {found.num} redraws of the patients, and tested "
        f"on those left out ({found.num_configs} different configs were chosen, mean "
        f"test_{metric} {spread.mean:.3f} from 63 % of the patients): with what "
        f"training and choosing vary by, the interval of {held.value:.3f} is "
        f"{ends(wide)}; that of the trained models as they are, {ends(held)}, leaves "
        f"out {share:.0%} of the variance and should be {spread.factor:.2f} times as "
        "wide."
    )
