"""Sets of classes that hold the true one as often as was promised.

Split conformal prediction (Vovk, Gammerman and Shafer 2005) with the score 1 - p of the
true class (Sadinle, Lei and Wasserman 2019): a set holds every class whose probability
is high enough that it would have been missed for few of the calibration patients. The
promise holds for patients like those, whatever the model; not for another hospital's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ABSTAINS = -1


@dataclass(frozen=True)
class ConformalSets:
    """``least``: probability from which on each class is in a set, [C].

    Below 0 where there were too few patients for the promise: that class is in all.
    """

    least: np.ndarray

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes are in the set of each row [N, C], bool [N, C]."""
        return probabilities >= self.least

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Class of each row whose set has one class, ``ABSTAINS`` of others, [N]."""
        sets = self(probabilities)
        return np.where(sets.sum(1) == 1, sets.argmax(1), ABSTAINS)


def fit_sets(
    probabilities: np.ndarray,
    targets: np.ndarray,
    patients: np.ndarray,
    missed: float = 0.1,
    by_class: bool = False,
) -> ConformalSets:
    """Find the sets that miss the true class of at most a share of new patients' rows.

    Patients are the units: each has a weight of one, shared by its rows (Lee, Barber
    and Willett 2023), so the promise is for a row of a new patient.

    Args:
        probabilities: [N, C], of patients who neither trained nor chose the model.
        targets: class indices [N].
        patients: of each row, [N].
        missed: share that may be missed, 0 to 1.
        by_class: promise it within each class, not over all.
    """
    num_classes = probabilities.shape[1]
    scores = 1 - probabilities[np.arange(len(targets)), targets]
    if not by_class:
        return ConformalSets(np.full(num_classes, 1 - _limit(scores, patients, missed)))
    limits = []
    for code in range(num_classes):
        rows = targets == code
        limits.append(_limit(scores[rows], patients[rows], missed))
    return ConformalSets(1 - np.array(limits))


def _limit(scores: np.ndarray, patients: np.ndarray, missed: float) -> float:
    """The score that a new patient's exceeds in at most a share ``missed``.

    The new patient is one more, whose score may be anything: infinity if the others'
    weight is too small without it.
    """
    _, code, rows = np.unique(patients, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weight = np.cumsum((1 / rows[code])[order])
    wanted = (1 - missed) * (len(rows) + 1)
    enough = np.flatnonzero(weight >= wanted - 1e-9)
    return float(scores[order][enough[0]]) if len(enough) else float("inf")


@dataclass(frozen=True)
class SetReport:
    """How the sets of some rows did.

    ``rows``: number; ``covered``: share whose set holds the true class; ``decided``:
    share whose set has one class; ``right``: of these, the share whose class is the
    true one; ``size``: mean number of classes in a set.
    """

    rows: int
    covered: float
    decided: float
    right: float
    size: float


def report_sets(sets: np.ndarray, targets: np.ndarray) -> SetReport:
    """Describe sets [N, C] of rows whose class is known, such as those of a site.

    NaN for what no row has.
    """
    num = len(targets)
    if not num:
        return SetReport(0, np.nan, np.nan, np.nan, np.nan)
    holds = sets[np.arange(num), targets]
    single = sets.sum(1) == 1
    right = float(holds[single].mean()) if single.any() else float("nan")
    size = float(sets.sum(1).mean())
    return SetReport(num, float(holds.mean()), float(single.mean()), right, size)
