"""Classification metrics of weighted rows, for many weightings at once.

A bootstrap replicate is a weighting of the same rows, so the metric of every replicate
comes from one pass over arrays. Weights of one give the plain metric.
"""

from __future__ import annotations

import numpy as np

from mshisto_ray.statistics.rank_metrics import rank_metrics, weighted_ratio

METRICS = ("accuracy", "precision", "recall", "f1", "auroc", "pr_auc")


def decide(probabilities: np.ndarray) -> np.ndarray:
    """Predicted class of each row [N, C]: the most probable one.

    Of equally probable classes the first; with two classes that is p > 0.5.
    """
    return probabilities.argmax(1)


def classification_metrics(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Every metric of ``METRICS`` for each of R weightings of the rows.

    Two classes: precision, recall, F1, AUROC and PR-AUC are those of the second
    class. More: the mean over classes, each against the rest. AUROC counts ties as
    one half; PR-AUC is average precision (no interpolation). Precision is 0 where
    nothing was predicted; metrics of a class without weight are NaN.

    Args:
        probabilities: [N, C].
        targets: class indices [N].
        weights: [R, N], none negative; None: one weighting of ones.

    Returns:
        ``{metric: [R]}``.
    """
    if weights is None:
        weights = np.ones((1, len(targets)))
    num_classes = probabilities.shape[1]
    positives = [1] if num_classes == 2 else list(range(num_classes))
    predicted = decide(probabilities)
    each: dict[str, list[np.ndarray]] = {name: [] for name in METRICS[1:]}
    for index in positives:
        truth = targets == index
        counts = _count_metrics(predicted == index, truth, weights)
        ranks = rank_metrics(probabilities[:, index], truth, weights)
        for name, value in {**counts, **ranks}.items():
            each[name].append(value)
    hit = (predicted == targets).astype(float)
    result = {"accuracy": weighted_ratio(weights @ hit, weights.sum(1))}
    return result | {name: np.mean(values, axis=0) for name, values in each.items()}


def auroc(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Area under the ROC curve as in ``classification_metrics``."""
    return float(classification_metrics(probabilities, targets)["auroc"][0])


def balanced_accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean recall of the classes that occur.

    Args:
        probabilities: [N, C].
        targets: class indices [N].
    """
    hit = decide(probabilities) == targets
    rows, hits = np.bincount(targets), np.bincount(targets, weights=hit)
    return float((hits[rows > 0] / rows[rows > 0]).mean())


def _count_metrics(
    predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    hits = weights @ (predicted & truth).astype(float)
    called = weights @ predicted.astype(float)
    actual = weights @ truth.astype(float)
    precision = np.where(called > 0, weighted_ratio(hits, called), 0.0)
    return {
        "precision": np.where(actual > 0, precision, np.nan),
        "recall": weighted_ratio(hits, actual),
        "f1": np.where(actual > 0, weighted_ratio(2 * hits, called + actual), np.nan),
    }
