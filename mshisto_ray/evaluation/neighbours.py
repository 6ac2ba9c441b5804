"""Exact nearest neighbours by blocked matrix products, with rows left out per query."""

from __future__ import annotations

import numpy as np

from mshisto_ray.evaluation._search import Neighbours, Search, as_measured, parts_of
from mshisto_ray.evaluation.exclusion import Exclusion


def nearest(
    values: np.ndarray,
    queries: np.ndarray,
    k: int,
    exclusion: Exclusion,
    normalise: bool = True,
    device: str = "cpu",
) -> Neighbours:
    """Find the nearest rows of a set for some of its own rows, by Euclidean distance.

    Args:
        values: embeddings [N, D], rows sorted by the exclusion's groups.
        queries: rows used as queries, [Q], in any order.
        k: neighbours of each.
        exclusion: rows that are excluded for a query.
        normalise: measure between vectors of length 1 (the order of cosines).
        device: where the products are computed; it holds float32 [N, D].
    """
    order = np.argsort(queries, kind="stable")
    search = Search(values, values, k, exclusion, normalise, device)
    found = search.run(queries[order])
    back = np.argsort(order, kind="stable")
    return Neighbours(found.rows[back], found.distance[back])


def nearest_across(
    vectors: np.ndarray,
    values: np.ndarray,
    k: int,
    normalise: bool = True,
    device: str = "cpu",
) -> Neighbours:
    """Find the nearest rows of ``values`` [N, D] for ``vectors`` [Q, D]."""
    search = Search(vectors, values, k, None, normalise, device)
    return search.run(np.arange(len(vectors)))


def distances(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, normalise: bool = True
) -> np.ndarray:
    """Euclidean distance of pairs of rows, float64 [P]; see ``nearest``."""
    apart = np.empty(len(first))
    for part in parts_of(len(first)):
        gap = as_measured(values[first[part]], normalise)
        gap -= as_measured(values[second[part]], normalise)
        apart[part] = np.sqrt((gap * gap).sum(1))
    return apart
