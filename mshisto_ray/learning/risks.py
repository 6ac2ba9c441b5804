"""Risks that a model gave to patients, their metrics and replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mshisto_ray.statistics.bootstrap import (
    REPLICATES,
    SEED,
    Interval,
    draw_counts,
    percentile_interval,
)
from mshisto_ray.statistics.survival.concordance import harrell_and_uno
from mshisto_ray.statistics.survival.dynamic_auc import dynamic_auc

METHOD = (
    "95 % percentile intervals of 1000 patient-bootstrap replicates, with the trained "
    "models held fixed"
)
POOLED, FOLDS = "pooled", "folds"


@dataclass(frozen=True)
class Risks:
    """A risk per patient, or per patient and fold where a patient is tested in several.

    ``patient``: text [N], sorted; ``fold``: whose model gave the risk, text [N];
    ``time``, ``risk``: float [N], a higher risk for an earlier event; ``event``: bool
    [N], false where the patient was last seen at ``time`` without it.
    """

    patient: np.ndarray
    fold: np.ndarray
    time: np.ndarray
    event: np.ndarray
    risk: np.ndarray


class RiskEstimates:
    """Metrics of one model's risks: of all pooled, and the mean over folds.

    The risks of two folds come from two models and need not be of one scale; the mean
    over folds compares patients of a fold only. Models of the same patients share the
    draws of their replicates, which may be subtracted from each other.

    Args:
        risks: of the model.
        horizons: times of the time-dependent AUROC.
        until: of Uno's C; see ``uno``.
    """

    def __init__(
        self, risks: Risks, horizons: Sequence[float] = (), until: float = np.inf
    ):
        self._risks, self._horizons, self._until = risks, horizons, until
        _, self._patient = np.unique(risks.patient, return_inverse=True)
        self._folds = [
            np.flatnonzero(risks.fold == name) for name in np.unique(risks.fold)
        ]

    @property
    def names(self) -> list[str]:
        """Of the metrics."""
        return metric_names(self._horizons)

    @cached_property
    def values(self) -> dict[tuple[str, str], float]:
        """By metric and ``pooled`` or ``folds``; NaN where it is not defined."""
        found = self._measure(np.ones((1, int(self._patient.max()) + 1)))
        return {key: float(values[0]) for key, values in found.items()}

    @cached_property
    def replicates(self) -> dict[tuple[str, str], np.ndarray]:
        """Each value in every bootstrap replicate, [R]."""
        patients = int(self._patient.max()) + 1
        generator = np.random.default_rng(SEED)
        return self._measure(draw_counts(patients, REPLICATES, generator).astype(float))

    def interval(self, metric: str, over: str) -> Interval:
        """A value with its 95 % interval over patients."""
        return percentile_interval(
            self.values[metric, over], self.replicates[metric, over]
        )

    def difference(self, other: RiskEstimates, metric: str, over: str) -> Interval:
        """This model's value less another's on the same patients, with its interval."""
        key = metric, over
        gap = self.values[key] - other.values[key]
        return percentile_interval(gap, self.replicates[key] - other.replicates[key])

    def by_fold(self, metric: str) -> dict[str, float]:
        """The metric within each fold."""
        return {
            str(self._risks.fold[rows[0]]): float(self._of(rows, None)[metric][0])
            for rows in self._folds
        }

    def _measure(self, counts: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        weights = counts[:, self._patient]
        everyone = self._of(np.arange(weights.shape[1]), weights)
        if len(self._folds) == 1:
            folds = [everyone]
        else:
            folds = [self._of(rows, weights[:, rows]) for rows in self._folds]
        found = {(name, POOLED): values for name, values in everyone.items()}
        return found | {
            (name, FOLDS): np.mean([fold[name] for fold in folds], axis=0)
            for name in self.names
        }

    def _of(
        self, rows: np.ndarray, weights: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        r = self._risks
        data = r.time[rows], r.event[rows], r.risk[rows]
        found = [*harrell_and_uno(*data, weights, self._until)]
        if self._horizons:
            found += [*dynamic_auc(*data, np.array(self._horizons), weights).T]
        return dict(zip(self.names, found, strict=True))


def metric_names(horizons: Sequence[float]) -> list[str]:
    """``c`` (Harrell's), ``uno_c``, ``auc_<time>`` for each horizon."""
    return ["c", "uno_c", *(f"auc_{horizon:g}" for horizon in horizons)]
