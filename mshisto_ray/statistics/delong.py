"""DeLong's covariance of AUROCs on the same patients, who may have several rows each.

An AUROC is a mean over pairs of a positive and a negative row. DeLong, DeLong and
Clarke-Pearson (1988) give the covariance of several of them from the *placement* of
each row: the share of the other class that it is ranked right against. Obuchowski
(1997) adds placements up by patient, so that rows of a patient may depend on each
other; with one row a patient both are the same. Placements come from midranks (Sun and
Xu 2014), in the time of a sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from mshisto_ray.statistics.rank_metrics import weighted_ratio


@dataclass(frozen=True)
class AurocParts:
    """AUROCs of K columns of scores, and what each of P patients adds to their error.

    ``auroc``: [1, K]; ``positive``, ``negative``: placements of a patient's positive
    and negative rows less the AUROC, summed, divided by the number of all such rows,
    [P, K]; ``positive_patients``, ``negative_patients``: how many patients have such
    rows, [1, K].
    """

    auroc: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    positive_patients: np.ndarray
    negative_patients: np.ndarray

    def covariance(self) -> np.ndarray:
        """Covariance of the AUROCs, [K, K]; NaN where a class has one patient only."""
        ups = self.positive * _unbiased(self.positive_patients)
        downs = self.negative * _unbiased(self.negative_patients)
        cross = self.positive.T @ self.negative * self._unbiased_cross()
        return ups.T @ ups + downs.T @ downs + cross + cross.T

    def variance(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variance of weighted sums of the AUROCs, and its degrees of freedom.

        The variance is itself estimated, from few patients where a class is rare;
        Satterthwaite's degrees of freedom say how well.

        Args:
            weights: [K, M], of M sums.

        Returns:
            [M] and [M]; NaN where a class has one patient only.
        """
        ups = self.positive * _unbiased(self.positive_patients) @ weights
        downs = self.negative * _unbiased(self.negative_patients) @ weights
        cross = (self.positive @ weights) * (self.negative @ weights)
        up, down = (ups**2).sum(0), (downs**2).sum(0)
        variance = up + down + 2 * cross.sum(0) * self._unbiased_cross()
        spread = up**2 / (self.positive_patients.min() - 1)
        spread = spread + down**2 / (self.negative_patients.min() - 1)
        return variance, weighted_ratio(variance**2, spread, empty=np.inf)

    def _unbiased_cross(self) -> np.ndarray:
        return _unbiased(np.array(len(self.positive))) ** 2


def auroc_parts(
    scores: np.ndarray, truth: np.ndarray, patients: np.ndarray, num_patients: int
) -> AurocParts:
    """AUROC of each column of scores; equal scores count one half.

    Args:
        scores: [N, K], higher for the positive class.
        truth: bool [N], with rows of both kinds.
        patients: index of each row's patient, int [N], each below ``num_patients``.
        num_patients: P.
    """
    ranks = _midranks(scores)
    own = [_midranks(scores[rows]) for rows in (truth, ~truth)]
    above = (ranks[truth] - own[0]) / (~truth).sum()
    below = 1 - (ranks[~truth] - own[1]) / truth.sum()
    auroc = above.mean(0, keepdims=True)
    sums, counts = [], []
    for placements, rows in ((above, truth), (below, ~truth)):
        total = np.zeros((num_patients, scores.shape[1]))
        np.add.at(total, patients[rows], (placements - auroc) / rows.sum())
        sums.append(total)
        counts.append(np.full(auroc.shape, len(np.unique(patients[rows]))))
    return AurocParts(auroc, *sums, *counts)


def join(parts: Sequence[AurocParts]) -> AurocParts:
    """The columns of several, of the same patients, side by side."""
    names = [field.name for field in fields(AurocParts)]
    columns = [np.hstack([getattr(p, name) for p in parts]) for name in names]
    return AurocParts(*columns)


def _midranks(values: np.ndarray) -> np.ndarray:
    """Ranks of each column [N, K], from 1; equal values share the mean of theirs.

    ``scipy.stats.rankdata`` gives the same, but takes each worker seconds to import.
    """
    ranks = np.empty(values.shape)
    for column, found in zip(values.T, ranks.T, strict=True):
        ordered = np.sort(column)
        least, most = (np.searchsorted(ordered, column, s) for s in ("left", "right"))
        found[:] = (least + most + 1) / 2
    return ranks


def _unbiased(count: np.ndarray) -> np.ndarray:
    """Root of n / (n - 1); NaN where n is 1."""
    return np.sqrt(weighted_ratio(count, count - 1.0))
