"""Metrics that detect a collapsed training; pure functions on arrays."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mshisto_ray.evaluation.descriptor_distance import effective_rank

# Below these, features carry almost no information on the tile: a spread a tenth of
# that of features uniform on the sphere, or all in two directions.
_LEAST_SPREAD, _LEAST_RANK = 0.1, 3.0


def unit(values: np.ndarray) -> np.ndarray:
    """Rows [N, D] of length 1, float64; a zero row stays zero."""
    values = values.astype(np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(length, 1e-12)


def spread(values: np.ndarray) -> float:
    """Mean standard deviation of unit rows [N, D], times sqrt(D): 1 if uniform."""
    rows = unit(values)
    return float(rows.std(axis=0).mean() * np.sqrt(rows.shape[1]))


def alignment(values: np.ndarray, positive: np.ndarray) -> float:
    """Mean squared distance of positive pairs of unit rows; NaN without any.

    Source: Wang and Isola 2020, alignment with exponent 2.
    """
    return _mean(_squared(values)[np.triu(positive, 1)])


def uniformity(values: np.ndarray) -> float:
    """Log of the mean of exp(-2 d^2) over pairs of unit rows; lower is more uniform.

    Source: Wang and Isola 2020, uniformity with t = 2.
    """
    squared = _squared(values)
    pairs = squared[np.triu_indices(len(squared), 1)]
    return float(np.log(_mean(np.exp(-2 * pairs))))


def dead_negatives(
    values: np.ndarray, negative: np.ndarray, margin: float, normalised: bool
) -> float:
    """Share of negative pairs beyond the margin, whose gradient is zero."""
    apart = np.sqrt(_squared(values, normalised))[np.triu(negative, 1)]
    return _mean(apart >= margin)


def near_far_auc(near: np.ndarray, far: np.ndarray) -> float:
    """Chance that a far pair's distance is above a near pair's; ties count half."""
    if not len(near) or not len(far):
        return float("nan")
    from scipy.stats import rankdata  # takes a second to import

    ranks = rankdata(np.concatenate([far, near]))[: len(far)]
    return float((ranks.sum() / len(far) - (len(far) + 1) / 2) / len(near))


def pair_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distances of unit rows, pair by pair, [P]."""
    return np.linalg.norm(unit(first) - unit(second), axis=1)


def recall_at(values: np.ndarray, targets: np.ndarray, k: int) -> float:
    """Share of rows whose own target is among their k nearest targets.

    Args:
        values: [N, D]; row i's own target is row i of ``targets``.
        targets: [N, D].
        k: number of nearest targets; one exactly as near as the own one counts half.
    """
    if not len(values):
        return float("nan")
    scores = unit(values) @ unit(targets).T
    own = scores.diagonal()[:, None]
    ahead = (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    return _mean(ahead < k)


def projection_monitors(
    projections: torch.Tensor,
    positive: np.ndarray,
    negative: np.ndarray,
    loss: nn.Module,
) -> dict[str, float]:
    """Monitors of a training batch's projections [M, P], the loss's own among them."""
    values = projections.cpu().numpy()
    found = {
        "spread": spread(values),
        "rank": effective_rank(values),
        "alignment": alignment(values, positive),
        "uniformity": uniformity(values),
    }
    own = getattr(loss, "monitors", None)
    return found | (own(values, positive, negative) if own else {})


def collapse(metrics: dict[str, float]) -> str | None:
    """A message if the features have collapsed, else None."""
    if metrics["spread"] < _LEAST_SPREAD:
        return f"features hardly differ (spread {metrics['spread']:.3g})"
    if metrics["rank"] < _LEAST_RANK:
        return f"features lie in {metrics['rank']:.2g} directions"
    return None


def _squared(values: np.ndarray, normalised: bool = True) -> np.ndarray:
    rows = unit(values) if normalised else values.astype(np.float64)
    lengths = (rows**2).sum(axis=1)
    return np.maximum(lengths[:, None] + lengths - 2 * rows @ rows.T, 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
