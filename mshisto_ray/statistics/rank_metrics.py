"""AUROC and average precision of weighted rows, for many weightings at once."""

from __future__ import annotations

import numpy as np


def rank_metrics(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """AUROC and average precision for each of R weightings of the rows.

    Equal scores count one half in AUROC; average precision is not interpolated.
    NaN where a weighting leaves no positive (AUROC: or no negative).

    Args:
        scores: [N], higher for the positive class.
        truth: bool [N].
        weights: [R, N], none negative.

    Returns:
        ``{"auroc": [R], "pr_auc": [R]}``.
    """
    order = np.argsort(-scores, kind="stable")
    _, starts = np.unique(-scores[order], return_index=True)
    # Weight of positives and negatives at each distinct score, highest first: [R, G].
    up = np.add.reduceat(weights[:, order] * truth[order], starts, axis=1)
    down = np.add.reduceat(weights[:, order] * ~truth[order], starts, axis=1)
    above, below = up.cumsum(1), down.cumsum(1)
    positives, negatives = above[:, -1], below[:, -1]
    # A negative is beaten by positives with a higher score, and half by its equals.
    beaten = (down * (above - up / 2)).sum(1)
    steps = (up * weighted_ratio(above, above + below, empty=0.0)).sum(1)
    return {
        "auroc": weighted_ratio(beaten, positives * negatives),
        "pr_auc": weighted_ratio(steps, positives),
    }


def weighted_ratio(
    top: np.ndarray, bottom: np.ndarray, empty: float = np.nan
) -> np.ndarray:
    """``top / bottom``, and ``empty`` where ``bottom`` is 0."""
    result = np.full(np.broadcast(top, bottom).shape, empty)
    return np.divide(top, bottom, out=result, where=bottom > 0)


def mean_of_known(each: np.ndarray) -> np.ndarray:
    """Mean over the first axis of the values that are not NaN; NaN where none is."""
    known = np.isfinite(each)
    return weighted_ratio(np.where(known, each, 0).sum(0), known.sum(0))
