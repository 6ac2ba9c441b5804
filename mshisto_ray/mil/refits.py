"""Refits: patients drawn anew, models trained on them, tested on those left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.predictions import (
    Predictions,
    read_predictions,
    write_predictions,
)
from mshisto_ray.learning.split import Split, SplitConfig, set_aside
from mshisto_ray.learning.sweep.nested_choice import choices_within_folds
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.statistics.refits import (
    TrainingVariance,
    training_variance,
    widened,
)

_TEST, _VALIDATION = "refits_test.parquet", "refits_validation.parquet"
_STREAM = 2  # separates their random numbers from those of folds and inner splits
_TRIES = 100
_FROM_0_TO_1 = (
    "auroc", "pr_auc", "accuracy", "f1", "c_index", "uno_c", "auc", "brier",
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


def draw_refits(bags: Bags, config: SplitConfig, num: int) -> list[Split]:
    """Splits of ``num`` refits, numbered as folds.

    Patients (or what ``config.together`` names) are drawn with replacement, as many as
    there are; a patient drawn twice trains twice. Of the drawn a share is set aside
    for validation, each once. Those left out are tested. A draw whose parts lack what
    the target needs is made again.
    """
    owners = bags.groups if config.together else bags.patient_ids
    assert owners is not None and bags.targets is not None
    usable = bags.sizes > 0
    names, of = np.unique(np.array(owners, dtype=str), return_inverse=True)
    present = np.unique(of[usable])
    strata = bags.kind.strata(bags.targets, bags.classes, 2).of

    def draw(number: int, attempt: int) -> Split:
        rng = np.random.default_rng([config.seed, number, attempt, _STREAM])
        drawn = np.bincount(rng.choice(present, len(present)), minlength=len(names))
        learned = np.flatnonzero(usable & (drawn[of] > 0))
        train, validation = set_aside(config, names[of], strata, learned, rng)
        test = np.flatnonzero(usable & (drawn[of] == 0))
        return Split(0, number, train.repeat(drawn[of][train]), validation, test)

    found = []
    for number in range(num):
        draws = (draw(number, attempt) for attempt in range(_TRIES))
        found.append(next((s for s in draws if _is_whole(bags, s)), draw(number, 0)))
    return found


def _is_whole(bags: Bags, split: Split) -> bool:
    assert bags.targets is not None
    lacks = [
        bags.kind.lack(bags.targets[part], bags.classes, learns)
        for part, learns in (
            (split.train, True), (split.validation, False), (split.test, False),
        )
    ]  # fmt: skip
    return not any(lacks)


def run_refits(
    folder: Path,
    bags: Bags,
    split: SplitConfig,
    config: TrainConfig,
    num: int,
    on_model: Callable[[int, int], None],
) -> None:
    """Train one config in every refit; write its predictions beside its result."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    splits = draw_refits(bags, split, num)
    result = cross_validate(bags, splits, config, device, on_fold=on_model)
    assert result.validation is not None
    write_predictions(folder / _VALIDATION, result.validation)
    write_predictions(folder / _TEST, result.test)


def num_refits(folder: Path) -> int:
    """Refits that a result has; 0 without any."""
    path = folder / _TEST
    return len(np.unique(read_predictions(path).fold)) if path.is_file() else 0


def refit_interval(
    folders: Mapping[str, Path], held: Interval, metric: str
) -> RefitInterval | None:
    """The interval of training and choosing as a sweep does.

    In every refit the config that is best on its own validation patients is chosen.

    Args:
        folders: of all configs, in the order of the axes.
        held: value and interval of the trained models.
        metric: that chooses.

    Returns:
        None where a config has no refits.
    """
    if not all(num_refits(path) for path in folders.values()):
        return None
    validation = {k: read_predictions(p / _VALIDATION) for k, p in folders.items()}
    test = {k: read_predictions(p / _TEST) for k, p in folders.items()}
    chosen = choices_within_folds(validation, test, metric)
    patients = {name for part in test.values() for name in part.patient_id}
    parts = [test[name].take(_fold(test[name], fold)) for (_, fold), name in chosen]
    each = [_estimate(part, metric) for part in parts]
    shares = [len(set(part.patient_id)) / len(patients) for part in parts]
    values, variances = (np.array(column) for column in zip(*each, strict=True))
    found = training_variance(values, variances, np.array(shares))
    wide = widened(held, found.factor, metric in _FROM_0_TO_1)
    names = {name for _, name in chosen}
    return RefitInterval(len(parts), held, wide, found, len(names))


def _fold(predictions: Predictions, fold: int) -> np.ndarray:
    return predictions.fold == fold


def _estimate(part: Predictions, metric: str) -> tuple[float, float]:
    """Value of a metric, and its variance with the models held."""
    estimates = Estimates(part)
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
