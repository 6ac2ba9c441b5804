"""How far probabilities are from what happens, and maps that bring them nearer.

A map is fitted on patients who neither trained the model nor test it: on the inner
validation of each fold. What fits a map imports scikit-learn, for a second that workers
which fit none are spared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import log_softmax, logsumexp

from mshisto_ray.statistics.rank_metrics import weighted_ratio

_TINY = 1e-12
_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width over 0 to 1 that have rows.

    ``confidence``: mean probability; ``share``: of rows that are right; ``number``:
    of rows; each [B].
    """

    confidence: np.ndarray
    share: np.ndarray
    number: np.ndarray

    @property
    def error(self) -> float:
        """Mean absolute gap, weighted by number (Guo et al. 2017, equation 3)."""
        gaps = abs(self.confidence - self.share)
        return float((gaps * self.number).sum() / self.number.sum())


def reliability(
    confidence: np.ndarray, right: np.ndarray, bins: int = _BINS
) -> Reliability:
    """Compare probabilities with how often they were right.

    Args:
        confidence: probability of what was predicted, or of the positive class, [N].
        right: whether it was so, bool [N].
        bins: over 0 to 1; each holds its lower edge, the last one both.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    number = np.bincount(place, minlength=bins)
    used = number > 0
    sums = [
        np.bincount(place, v, bins)[used] for v in (confidence, right.astype(float))
    ]
    return Reliability(sums[0] / number[used], sums[1] / number[used], number[used])


def expected_calibration_error(
    probabilities: np.ndarray, targets: np.ndarray, bins: int = _BINS
) -> float:
    """ECE of the most probable class.

    Args:
        probabilities: [N, C].
        targets: class indices [N].
        bins: of equal width.
    """
    predicted = probabilities.argmax(1)
    return reliability(probabilities.max(1), predicted == targets, bins).error


def brier_score(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Mean over rows of the squared error, [R].

    Of two classes that of the second; of more the sum over classes (Brier 1950), which
    for two would be twice as much.

    Args:
        probabilities: [N, C].
        targets: class indices [N].
        weights: [R, N], none negative; None: one weighting of ones.
    """
    weights = np.ones((1, len(targets))) if weights is None else weights
    errors = (probabilities - np.eye(probabilities.shape[1])[targets]) ** 2
    each = errors[:, 1] if errors.shape[1] == 2 else errors.sum(1)
    return weighted_ratio(weights @ each, weights.sum(1))


class Calibration(Protocol):
    """Maps probabilities [N, C] to probabilities [N, C]."""

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Of patients who did not train the model."""
        ...


@dataclass(frozen=True)
class Temperature:
    """Logits divided by ``value``: above 1 less certain; the order stays."""

    value: float

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """See ``Calibration``."""
        scaled = np.log(np.maximum(probabilities, _TINY)) / self.value
        return np.exp(log_softmax(scaled, axis=1))


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> Temperature:
    """The temperature of the least negative log-likelihood (Guo et al. 2017).

    It lies between .05 and 20: where every row is right, the least would be 0.

    Args:
        probabilities: [N, C], of patients who did not train the model.
        targets: class indices [N].
    """
    from scipy.optimize import minimize_scalar

    logits = np.log(np.maximum(probabilities, _TINY))
    own = logits[np.arange(len(targets)), targets]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((logsumexp(logits * scale, axis=1) - own * scale).mean())

    limits = (np.log(0.05), np.log(20.0))
    found = minimize_scalar(loss, bounds=limits, method="bounded",
                            options={"xatol": 1e-8})  # fmt: skip
    return Temperature(float(np.exp(found.x)))


@dataclass(frozen=True)
class Platt:
    """Of two classes: the second has the probability sigm(slope * logit + offset)."""

    slope: float
    offset: float

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """See ``Calibration``."""
        second = 1 / (1 + np.exp(-(self.slope * _logit(probabilities) + self.offset)))
        return np.stack([1 - second, second], 1)


def fit_platt(probabilities: np.ndarray, targets: np.ndarray) -> Platt:
    """Fit ``Platt`` to targets of N+ and N- rows.

    They are (N+ + 1) / (N+ + 2) and 1 / (N- + 2) in place of 1 and 0, so that rows that
    are all right do not give an infinite slope (Platt 1999).

    Args:
        probabilities: [N, 2], of patients who did not train the model.
        targets: 0 or 1, [N], with rows of both.
    """
    from sklearn.linear_model import LogisticRegression

    positive, negative = float((targets == 1).sum()), float((targets == 0).sum())
    wanted = np.where(targets == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    x = np.tile(_logit(probabilities), 2)[:, None]
    y = np.repeat([1, 0], len(targets))
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(x, y, np.concatenate([wanted, 1 - wanted]))
    slope, offset = np.ravel(model.coef_)[0], np.ravel(model.intercept_)[0]
    return Platt(float(slope), float(offset))


@dataclass(frozen=True)
class Isotonic:
    """Of two classes: a rising step function, with straight lines between its knots."""

    knots: np.ndarray
    values: np.ndarray

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """See ``Calibration``."""
        second = np.interp(probabilities[:, 1], self.knots, self.values)
        return np.stack([1 - second, second], 1)


def fit_isotonic(probabilities: np.ndarray, targets: np.ndarray) -> Isotonic:
    """Fit ``Isotonic`` (Zadrozny and Elkan 2002); few rows are learned by heart.

    Args:
        probabilities: [N, 2], of patients who did not train the model.
        targets: 0 or 1, [N].
    """
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    model.fit(probabilities[:, 1], targets)
    return Isotonic(model.X_thresholds_, model.y_thresholds_)


def _logit(probabilities: np.ndarray) -> np.ndarray:
    both = np.log(np.maximum(probabilities, _TINY))
    return both[:, 1] - both[:, 0]
