"""Metrics of predictions of survival, for many weightings at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mshisto_ray.learning.targets._follow_up import FollowUp
from mshisto_ray.statistics.rank_metrics import mean_of_known
from mshisto_ray.statistics.survival.brier import brier, integrated_brier
from mshisto_ray.statistics.survival.concordance import harrell, harrell_and_uno
from mshisto_ray.statistics.survival.dynamic_auc import dynamic_auc, mean_auc

C_INDEX = "c_index"
OF_TIMES = ("uno_c", "auc", "brier", "brier_kaplan_meier")
TITLES = {
    C_INDEX: "Harrell's C",
    "uno_c": "Uno's C",
    "auc": "time-dependent AUROC",
    "brier": "integrated Brier score",
    "brier_kaplan_meier": "the same of Kaplan-Meier's curve",
}


def means_over_folds(
    values: np.ndarray,
    truth: np.ndarray,
    folds: np.ndarray,
    weights: np.ndarray,
    models: Mapping[int, FollowUp],
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    """Each metric's mean over the fold models, whose risks have no common scale, [R].

    Args:
        values: risk, and probabilities to live beyond horizons, [N, V].
        truth: time and event, [N, 2].
        folds: of the model of each row, [N].
        weights: [R, N].
        models: the follow-up that the model of a fold learned from; of folds without
            it there is Harrell's C alone.
        names: of the metrics.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for fold in np.unique(folds):
        rows, known = folds == fold, models.get(int(fold))
        own, counts = values[rows], weights[:, rows]
        each = (
            survival_metrics(own, truth[rows], counts, known)
            if known
            else harrells_c(own[:, 0], truth[rows], counts)
        )
        for name, value in each.items():
            found[name].append(value)
    return {name: mean_of_known(np.array(each)) for name, each in found.items()}


def harrells_c(
    risk: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """``c_index`` [R] of risks [N]; pairs of equal times count, see ``harrell``."""
    time, event = truth[:, 0], truth[:, 1]
    return {C_INDEX: harrell(time, event, risk, weights, equal_times=True)}


def survival_metrics(
    values: np.ndarray, truth: np.ndarray, weights: np.ndarray, known: FollowUp
) -> dict[str, np.ndarray]:
    """Harrell's and Uno's C, time-dependent AUROC, integrated Brier scores, each [R].

    Of the horizons those count that one of the weighted patients, and one of those that
    the model learned from, is observed beyond; Uno's C counts events before the last
    of them. Without any, all but Harrell's C is NaN.

    Args:
        values: risk, and probabilities to live beyond horizons, [N, V].
        truth: time and event, [N, 2].
        weights: [R, N].
        known: of the patients that the model learned from.
    """
    risk, survival = values[:, 0], values[:, known.places]
    time, event = truth[:, 0], truth[:, 1] > 0
    times = known.horizons[known.horizons < known.end]
    if not len(times):
        nothing = {name: np.full(len(weights), np.nan) for name in OF_TIMES}
        return harrells_c(risk, truth, weights) | nothing
    predicted = survival[:, : len(times)], known.survival[None, : len(times)]
    left = weights @ (time[:, None] > times) > 0
    until = np.concatenate([[-np.inf], times])[left.sum(1)]
    of_pairs = harrell_and_uno(time, event, risk, weights, until, True, known.observed)
    given = times, weights, known.observed
    aucs = dynamic_auc(time, event, risk, *given)
    scores = [
        integrated_brier(brier(time, event, one.repeat(num, 0), *given), times)
        for one, num in zip(predicted, (1, len(time)), strict=True)
    ]
    of_time = mean_auc(aucs, time, event, times, weights)
    found = [*of_pairs, of_time, *scores]
    return dict(zip((C_INDEX, *OF_TIMES), found, strict=True))
