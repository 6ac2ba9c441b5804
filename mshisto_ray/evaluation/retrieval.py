"""Retrieval of tiles of the query's class, and of a tile at another scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np

from mshisto_ray.evaluation.exclusion import Exclusion
from mshisto_ray.evaluation.neighbours import Neighbours, nearest, nearest_across

VOTES = 5


@dataclass(frozen=True)
class RetrievalTask:
    """Queries and their relevant rows, the same for every encoder.

    ``labels``: class of each row, int64 [N]; ``queries``: sorted rows of the queried
    classes that have a relevant target, [Q]; ``num_relevant``: allowed rows of the
    query's class, [Q]; ``chance``: expected score of each query under a random order,
    per metric, [Q]; ``without_target``: queries left out, per queried class, because
    every row of their class is excluded.
    """

    labels: np.ndarray
    exclusion: Exclusion
    depth: int
    queries: np.ndarray
    num_relevant: np.ndarray
    chance: dict[str, np.ndarray]
    without_target: dict[int, int]


def plan_retrieval(
    labels: np.ndarray, queries: np.ndarray, exclusion: Exclusion, depth: int = 10
) -> RetrievalTask:
    """The retrieval task with some rows as queries.

    Args:
        labels: class of each row, from 0, [N].
        queries: rows used as queries, sorted.
        exclusion: rows that are excluded for a query.
        depth: k of mAP@k.
    """
    num_labels = int(labels.max()) + 1
    counts = exclusion.allowed_counts(queries, labels, num_labels)
    relevant = counts[np.arange(len(queries)), labels[queries]]
    has = relevant > 0
    without = {
        int(label): int((~has & (labels[queries] == label)).sum())
        for label in np.unique(labels[queries])
    }
    chance = _chance(counts[has], labels[queries[has]], depth)
    return RetrievalTask(
        labels, exclusion, depth, queries[has], relevant[has], chance, without
    )


def metric_names(depth: int) -> tuple[str, str, str]:
    """The names of the scores of ``retrieve``, in its order."""
    return "hit_at_1", f"majority_at_{VOTES}", f"map_at_{depth}"


def retrieve(
    task: RetrievalTask,
    values: np.ndarray,
    normalise: bool = True,
    device: str = "cpu",
) -> tuple[dict[str, np.ndarray], Neighbours]:
    """Compute the scores of each query, and its nearest neighbours.

    ``hit_at_1``: the nearest row is of the query's class. ``majority_at_5``: most of
    the five nearest are; of classes with as many votes, that of the nearest row wins.
    ``map_at_k``: sum of the precision at i over the relevant places i <= k, divided
    by min(k, relevant rows), so that rows that are not found count as 0.

    Args:
        task: of ``plan_retrieval``.
        values: embeddings [N, D].
        normalise: see ``nearest``.
        device: see ``nearest``.

    Returns:
        ``{metric: float64 [Q]}`` and the max(5, k) neighbours of each query.

    Source: Gildenblat and Klaiman 2019, section 2 (hit at 1 from other slides).
    """
    k = max(VOTES, task.depth)
    found = nearest(values, task.queries, k, task.exclusion, normalise, device)
    labels = np.where(found.rows >= 0, task.labels[found.rows], -1)
    own = task.labels[task.queries]
    relevant = labels == own[:, None]
    first, majority, mean_precision = metric_names(task.depth)
    scores = {
        first: relevant[:, 0].astype(float),
        majority: (_majority(labels[:, :VOTES]) == own).astype(float),
        mean_precision: _average_precision(relevant[:, : task.depth], task),
    }
    return scores, found


def cross_scale_hits(
    fine: np.ndarray,
    coarse: np.ndarray,
    parents: np.ndarray,
    recall_at: Sequence[int],
    normalise: bool = True,
    device: str = "cpu",
) -> np.ndarray:
    """Whether a tile's parent is among its nearest tiles at the coarser scale.

    Args:
        fine: embeddings at the finer scale [Q, D].
        coarse: embeddings at the coarser scale [M, D].
        parents: row of each fine tile's parent in ``coarse``, [Q].
        recall_at: depths.
        normalise: see ``nearest``.
        device: see ``nearest``.

    Returns:
        Float64 [Q, len(recall_at)]: 1 where the parent is among the k nearest.
    """
    found = nearest_across(fine, coarse, max(recall_at), normalise, device)
    hit = found.rows == parents[:, None]
    return np.stack([hit[:, :k].any(1) for k in recall_at], 1).astype(float)


def _majority(labels: np.ndarray) -> np.ndarray:
    """The most frequent label of each row [Q, n], nearest first; -1 does not count."""
    votes = (labels[:, :, None] == labels[:, None, :]).sum(2)
    votes[labels < 0] = 0
    # The first place with the most votes holds the nearest row of the tied classes.
    return labels[np.arange(len(labels)), votes.argmax(1)]


def _average_precision(relevant: np.ndarray, task: RetrievalTask) -> np.ndarray:
    places = np.arange(1, relevant.shape[1] + 1)
    precision = relevant.cumsum(1) / places
    return (precision * relevant).sum(1) / np.minimum(task.depth, task.num_relevant)


def _chance(counts: np.ndarray, own: np.ndarray, depth: int) -> dict[str, np.ndarray]:
    """Expected scores under a random order of the allowed rows, exactly.

    Args:
        counts: allowed rows of each class, int64 [Q, C].
        own: class of each query, [Q].
        depth: k of mAP@k.
    """
    first, majority, mean_precision = metric_names(depth)
    total = counts.sum(1).astype(float)
    relevant = counts[np.arange(len(own)), own].astype(float)
    share = relevant / total
    # Place i is relevant with probability `share`; each earlier place is then with:
    before = (relevant - 1) / np.maximum(total - 1, 1)
    places = np.arange(1, depth + 1)[:, None]
    terms = share * (1 + (places - 1) * before) / places * (places <= total)
    return {
        first: share,
        majority: _majority_chance(counts, own),
        mean_precision: terms.sum(0) / np.minimum(depth, relevant),
    }


def _majority_chance(counts: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Chance that the query's class wins five votes drawn without replacement.

    Three votes win. Two win against three single ones, and as often as not against
    two and one. One wins against four single ones in one of five cases: equal classes
    are equally often the nearest. NaN with fewer than five allowed rows.
    """
    relevant = counts[np.arange(len(own)), own].astype(float)
    others = counts.astype(float)
    others[np.arange(len(own)), own] = 0
    rest = others.sum(1)
    single = _distinct(others, VOTES - 1)
    pair_and_one = (_choose(others, 2) * (rest[:, None] - others)).sum(1)
    wins = sum(
        _choose(relevant, votes) * _choose(rest, VOTES - votes)
        for votes in range(VOTES // 2 + 1, VOTES + 1)
    )
    wins += _choose(relevant, 2) * (single[3] + pair_and_one / 2)
    wins += relevant * single[4] / VOTES
    draws = _choose(relevant + rest, VOTES)
    return np.divide(wins, draws, out=np.full(len(own), np.nan), where=draws > 0)


def _choose(num: np.ndarray, k: int) -> np.ndarray:
    """Binomial coefficients of whole numbers as floats."""
    product = np.ones_like(num)
    for step in range(k):
        product = product * np.maximum(num - step, 0)
    return product / factorial(k)


def _distinct(counts: np.ndarray, most: int) -> list[np.ndarray]:
    """Ways to draw m rows of m different classes, for m = 0 to ``most``, [Q] each."""
    ways = [np.ones(len(counts))] + [np.zeros(len(counts)) for _ in range(most)]
    for column in counts.T:
        for m in range(most, 0, -1):
            ways[m] = ways[m] + ways[m - 1] * column
    return ways
