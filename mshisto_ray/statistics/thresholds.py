"""Thresholds of a probability, chosen on validation, and what they are worth."""

from __future__ import annotations

import numpy as np

from mshisto_ray.statistics.rank_metrics import weighted_ratio


def youden(scores: np.ndarray, truth: np.ndarray) -> float:
    """The threshold of the largest sensitivity + specificity - 1 (Youden 1950).

    Rows at or above it are called positive. Of several the highest; between two scores
    the middle, so that a new patient may fall on either side.

    Args:
        scores: [N].
        truth: bool [N], with rows of both kinds.
    """
    levels, sensitivity, specificity = _levels(scores, truth)
    return float(levels[(sensitivity + specificity).argmax()])


def for_sensitivity(scores: np.ndarray, truth: np.ndarray, wanted: float) -> float:
    """The highest threshold with at least the wanted sensitivity on these rows.

    Arguments as in ``youden``.
    """
    levels, sensitivity, _ = _levels(scores, truth)
    return float(levels[np.flatnonzero(sensitivity >= wanted)[0]])


def for_specificity(scores: np.ndarray, truth: np.ndarray, wanted: float) -> float:
    """The lowest threshold with at least the wanted specificity on these rows.

    Arguments as in ``youden``.
    """
    levels, _, specificity = _levels(scores, truth)
    return float(levels[np.flatnonzero(specificity >= wanted)[-1]])


def net_benefit(
    scores: np.ndarray,
    truth: np.ndarray,
    thresholds: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Net benefit of treating rows at or above each threshold, [R, M].

    True positives per row, less false positives per row times t / (1 - t), the odds at
    which a patient would be treated (Vickers and Elkin 2006). That of treating nobody
    is 0, of treating all ``net_benefit`` of scores of 1.

    Args:
        scores: probability of the positive class, [N].
        truth: bool [N].
        thresholds: [M], each below 1.
        weights: [R, N], none negative; None: one weighting of ones.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    called = scores[:, None] >= thresholds
    right, wrong = called & truth[:, None], called & ~truth[:, None]
    odds = thresholds / (1 - thresholds)
    gained = weights @ right.astype(float) - (weights @ wrong.astype(float)) * odds
    return weighted_ratio(gained, weights.sum(1)[:, None])


def _levels(
    scores: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds, highest first, with the sensitivity and specificity of each.

    One above all scores, the middles between neighbours, and the lowest score.
    """
    known = np.unique(scores)[::-1]
    above = np.nextafter(known[0], np.inf)
    levels = np.concatenate([[above], (known[:-1] + known[1:]) / 2, known[-1:]])
    positive, negative = np.sort(scores[truth]), np.sort(scores[~truth])
    missed = np.searchsorted(positive, levels) / len(positive)
    return levels, 1 - missed, np.searchsorted(negative, levels) / len(negative)
