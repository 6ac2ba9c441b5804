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
    models = {*zip(first.repeat.tolist(), first.fold.tolist(), strict=True)}
    scores = {n: fold_scores(found, metric) for n, found in validation.items()}
    whole = {n: {m: own.get(m, np.nan) for m in models} for n, own in scores.items()}
    chosen = best_within_folds(whole, metric in first.kind.lower_is_better)
    return list(chosen.items())


def fold_scores(validation: Predictions, metric: str) -> dict[tuple[int, int], float]:
    """The metric on the validation rows of the model of each repeat and fold."""
    models = {*zip(validation.repeat.tolist(), validation.fold.tolist(), strict=True)}
    return {
        (repeat, fold): score_of(_of(validation, repeat, fold), metric)
        for repeat, fold in sorted(models)
    }


def best_within_folds(
    scores: Mapping[str, Mapping[tuple[int, int], float]], lower_is_better: bool
) -> dict[tuple[int, int], str]:
    """The config that each repeat and fold chooses, in their order.

    ``scores``: of ``fold_scores`` by config, in the order of the axes.
    """
    sign = -1 if lower_is_better else 1

    def best(model: tuple[int, int]) -> str:
        values = {n: sign * own.get(model, np.nan) for n, own in scores.items()}
        return max(values, key=lambda n: np.nan_to_num(values[n], nan=-np.inf))

    models = sorted({model for own in scores.values() for model in own})
    return {model: best(model) for model in models}


def _of(predictions: Predictions, repeat: int, fold: int) -> Predictions:
    return predictions.take((predictions.repeat == repeat) & (predictions.fold == fold))


def score_of(predictions: Predictions, metric: str) -> float:
    """The metric of one model's predictions, NaN where it is not defined."""
    if not len(predictions):
        return float("nan")
    given = predictions.probabilities, predictions.target, predictions.fold
    kind = predictions.kind_of(int(predictions.repeat[0]))
    return float(kind.measure(*given)[metric][0])
