"""Do new patients' embeddings lie where those of training did?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.covariance import LedoitWolf


@dataclass(frozen=True)
class _Part:
    """A fold of training patients.

    ``others``: centre and covariance of the patients outside it; ``distances``: of its
    own from them, squared, ascending.
    """

    others: LedoitWolf
    distances: np.ndarray


class DriftTest:
    """Tests new patients against those of training.

    A patient's embedding (the mean of its tiles, say) is measured by its Mahalanobis
    distance, with a covariance shrunk as by Ledoit and Wolf (2004). Every training
    patient is measured from the patients of other folds, so that its distance is one of
    a patient who was not seen, as a new one's is.

    Args:
        values: embeddings of training patients, a row each, [P, D].
        folds: parts that they are measured in.
    """

    def __init__(self, values: np.ndarray, folds: int = 5):
        from sklearn.covariance import LedoitWolf  # takes half a second to import

        place = np.random.default_rng(0).permutation(len(values)) % folds
        self._parts = []
        for fold in range(folds):
            others = LedoitWolf().fit(values[place != fold])
            distances = np.sort(others.mahalanobis(values[place == fold]))
            self._parts.append(_Part(others, distances))
        self._num = len(values)

    def p_values(self, values: np.ndarray) -> np.ndarray:
        """P of each new patient [M, D] to be one like those of training, [M].

        The share of training patients, the new one counted, that lie at least as far
        out from the others of their fold as the new one does (cross-conformal, Vovk
        2015). Below .05 for about 5 % of patients like those of training.
        """
        farther = np.zeros(len(values))
        for part in self._parts:
            own = part.others.mahalanobis(values)
            below = np.searchsorted(part.distances, own, side="left")
            farther += len(part.distances) - below
        return (1 + farther) / (1 + self._num)

    def cohort_p(self, values: np.ndarray) -> float:
        """P of the new patients [M, D] to lie no farther out as a whole.

        One-sided Mann-Whitney test of their distances from the other folds against
        those of each fold's patients. Of the folds' p the k-th smallest times folds / k
        is one p, however they depend on each other (Rueger 1978; Vovk and Wang 2020);
        k is the middle.
        """
        from scipy.stats import mannwhitneyu  # takes a second to import

        found = [
            mannwhitneyu(
                part.others.mahalanobis(values), part.distances, alternative="greater"
            )
            for part in self._parts
        ]
        middle = (len(found) + 1) // 2
        p = np.sort([test.pvalue for test in found])[middle - 1]
        return float(min(1.0, p * len(found) / middle))
