"""What a sweep's way to choose is worth: a choice made anew within each fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.predictions import Predictions, concatenate
from mshisto_ray.statistics.bootstrap import Interval


@dataclass(frozen=True)
class NestedChoice:
    """The test metric of the configs that each fold chose by its own validation.

    ``value``: of their predictions together; ``num_configs``: how many different ones
    were chosen.
    """

    value: Interval
    num_configs: int


def choose_within_folds(
    validation: Mapping[str, Predictions], test: Mapping[str, Predictions], metric: str
) -> NestedChoice:
    """Choose a config in every fold of every repeat; measure those choices together.

    One choice over all folds has seen the test patients of each: they are validation
    patients of other folds. A choice within a fold has not, so its value is that of the
    procedure, the choice included (Varma and Simon 2006). Of equal values the first
    config is taken; one that is not defined is never chosen where another is.

    Args:
        validation: predictions of the validation bags by config, in the order of the
            axes.
        test: out-of-fold predictions by config, of the same bags.
        metric: of the target, by which is chosen.
    """
    chosen = choices_within_folds(validation, test, metric)
    parts = [_of(test[name], repeat, fold) for (repeat, fold), name in chosen]
    num = len({name for _, name in chosen})
    return NestedChoice(intervals(concatenate(parts))[metric], num)


def choices_within_folds(
    validation: Mapping[str, Predictions], test: Mapping[str, Predictions], metric: str
) -> list[tuple[tuple[int, int], str]]:
    """Each repeat and fold, and the config that it chooses.

    Arguments as of ``choose_within_folds``.
    """
    first = next(iter(test.values()))
    sign = -1 if metric in first.kind.lower_is_better else 1
    chosen = []
    for repeat, fold in sorted({*zip(first.repeat, first.fold, strict=True)}):
        scores = {
            name: sign * score_of(_of(found, repeat, fold), metric)
            for name, found in validation.items()
        }
        best = max(scores, key=lambda name: np.nan_to_num(scores[name], nan=-np.inf))
        chosen.append(((repeat, fold), best))
    return chosen


def _of(predictions: Predictions, repeat: int, fold: int) -> Predictions:
    return predictions.take((predictions.repeat == repeat) & (predictions.fold == fold))


def score_of(predictions: Predictions, metric: str) -> float:
    """The metric of one model's predictions, NaN where it is not defined."""
    if not len(predictions):
        return float("nan")
    given = predictions.probabilities, predictions.target, predictions.fold
    kind = predictions.kind_of(int(predictions.repeat[0]))
    return float(kind.measure(*given)[metric][0])
