"""Intervals of shares and AUROCs that hold up to 0 and 1.

The usual interval, value +- z standard errors, and the percentile bootstrap have no
width where every patient is ranked or decided right: no patient that was drawn was
wrong. A score interval (Wilson 1927 for shares, Newcombe 2006, method 5, for AUROCs)
holds every true value t from which the one found is no surprise,

    (value - t)^2 <= q^2 r v(t),

where v(t) is the variance that a theory gives at t. Theories assume one row a patient
and a shape of the scores, so r carries what was observed: the estimated variance over
v(value). Both are shrunk towards v near 0 and 1, where the data say nothing of them,

    r = (observed + d) / (v(value) + d),    d = max(0, v(t') - v(value)),

with t' the value after one more patient that is right and one that is wrong. With
d = 0 and a small interval this is value +- q standard errors. q is the quantile of a t
distribution; its degrees of freedom are those of the observed variance, more as d is
the larger part of the sum (Satterthwaite). docs/results/intervals.md shows coverage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes a second to import

from mshisto_ray.statistics.rank_metrics import weighted_ratio

_LEVEL = 0.95
_HALVINGS = 45


@dataclass(frozen=True)
class Theory:
    """Variance of a value that a theory gives.

    ``variance``: of true values [M] to variances [M]; ``patients``: how many patients
    are as good as those at hand, of the class that has fewest; ``step``: by how much a
    value changes where one patient is decided otherwise, or one pair of patients ranked
    otherwise.
    """

    variance: Callable[[np.ndarray], np.ndarray]
    patients: float
    step: float

    def missing(self, value: np.ndarray) -> np.ndarray:
        """D above: what the theory gives one patient away from 0 or 1, and not here."""
        nearer = (value * self.patients + 1) / (self.patients + 2)
        return np.maximum(self.variance(nearer) - self.variance(value), 0)


def effective_patients(rows: np.ndarray) -> float:
    """How many patients with one row each are as good as these.

    Kish's (sum)^2 / sum of squares, that is, as if the rows of a patient were copies of
    each other.

    Args:
        rows: how many rows each patient has, [P].
    """
    return float(rows.sum() ** 2 / max((rows**2).sum(), 1e-300))


def share_theory(patients: Sequence[float]) -> Theory:
    """The mean of shares, each of so many patients; t (1 - t) / n for one."""
    counts = [n for n in patients if n > 0]

    def variance(t: np.ndarray) -> np.ndarray:
        return t * (1 - t) * np.mean([1 / n for n in counts])

    step = sum(1 / n for n in counts) / max(len(counts), 1) ** 2
    return Theory(variance, min(counts, default=0.0), step)


def auroc_theory(patients: Sequence[tuple[float, float]]) -> Theory:
    """The mean of AUROCs, each of (positive, negative) patients.

    The formula of Hanley and McNeil (1982) for scores with exponential distributions,
    with Newcombe's (m + n) / 2 - 1 in place of m - 1 and n - 1.
    """

    def variance(t: np.ndarray) -> np.ndarray:
        shape = (1 - t) / (2 - t) + t / (1 + t)
        each = [(1 + ((m + n) / 2 - 1) * shape) / (m * n) for m, n in patients]
        return t * (1 - t) * np.mean(each, axis=0)

    fewest = min(min(pair) for pair in patients)
    each = [1 / (m * n) if fewest else np.inf for m, n in patients]
    return Theory(variance, fewest, sum(each) / len(patients) ** 2)


def score_interval(
    value: np.ndarray, observed: np.ndarray, degrees: np.ndarray, theory: Theory
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of each value.

    Args:
        value: [M], each 0 to 1; the ends of one that is NaN are NaN.
        observed: estimated variances [M]; where one is not finite, or has no degree
            of freedom, the theory's.
        degrees: degrees of freedom of the estimates, [M].
        theory: of the values; one of no patients gives 0 and 1.
    """
    if not theory.patients:
        return value * 0, value * 0 + 1
    expected, missing = theory.variance(value), theory.missing(value)
    known = np.isfinite(observed) & (degrees > 0)
    observed = np.where(known, observed, expected)
    ratio = weighted_ratio(observed + missing, expected + missing, empty=1.0)
    degrees = np.where(known, degrees, np.inf) * weighted_ratio(
        (observed + missing) ** 2, observed**2, empty=np.inf
    )
    quantile = stdtrit(np.maximum(degrees, 1), (1 + _LEVEL) / 2)
    reach = quantile**2 * ratio

    def end(outside: float) -> np.ndarray:
        inside, outer = value, np.full(value.shape, outside)
        for _ in range(_HALVINGS):
            middle = (inside + outer) / 2
            holds = (value - middle) ** 2 <= reach * theory.variance(middle)
            inside = np.where(holds, middle, inside)
            outer = np.where(holds, outer, middle)
        return inside

    return end(0.0), end(1.0)
