"""How far embeddings follow the class of a tile, and how far its site."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

_ROWS_AT_ONCE = 1024
_MOST_ROWS, _MOST_CLUSTERS = 2000, 30


def robustness_index(
    values: np.ndarray,
    target: np.ndarray,
    site: np.ndarray,
    group: np.ndarray,
    k: int = 50,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts among the ``k`` nearest neighbours of every tile: SO and OS, int [N] each.

    SO: of the same class and another site; OS: of another class and the same site.
    Neighbours are by cosine, without tiles of the tile's own group. The robustness
    index is SO / (SO + OS) of all tiles together: 1, the class decides; 0, the site.

    Source: Koemen et al. 2025, PathoROB; after de Jong et al. 2025, whose index is
    SO / OS. As ``croma`` (its design ``all``) at this ``k``.

    Args:
        values: embeddings [N, D].
        target: class [N].
        site: centre, scanner or other confounder [N].
        group: slide or patient [N].
        k: neighbours, as many as there are if fewer.
    """
    unit = values.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    same_other, other_same = np.zeros((2, len(unit)), np.int64)
    for start in range(0, len(unit), _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, len(unit)))
        similar = unit[part] @ unit.T
        own = group[part, None] == group
        similar[own] = -np.inf
        near = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        usable = np.isfinite(np.take_along_axis(similar, near, 1))
        same = target[near] == target[part, None]
        here = site[near] == site[part, None]
        same_other[part] = (usable & same & ~here).sum(1)
        other_same[part] = (usable & ~same & here).sum(1)
    return same_other, other_same


def paired_robustness_index(
    values: np.ndarray,
    target: np.ndarray,
    site: np.ndarray,
    group: np.ndarray,
    k: int = 50,
) -> tuple[np.ndarray, np.ndarray]:
    """As ``robustness_index``, among the tiles of two classes and two sites at a time.

    Counts are sums over all pairs of classes and pairs of sites of which all four
    combinations have tiles: what a cohort lacks (a class that one site alone has)
    cannot be taken for robustness. Zeros where there is no such pair.

    Source: Koemen et al. 2025, PathoROB; as ``croma`` (its design ``paired_2x2`` over
    all complete pairs) at this ``k``.
    """
    found = np.zeros((2, len(target)), np.int64)
    for classes in combinations(np.unique(target), 2):
        for sites in combinations(np.unique(site), 2):
            rows = np.flatnonzero(np.isin(target, classes) & np.isin(site, sites))
            cells = {*zip(target[rows].tolist(), site[rows].tolist(), strict=True)}
            if len(cells) < 4:
                continue
            found[:, rows] += robustness_index(
                values[rows], target[rows], site[rows], group[rows], k
            )
    return found[0], found[1]


def index_of(same_other: np.ndarray, other_same: np.ndarray) -> float:
    """SO / (SO + OS) of counts; NaN where there are none."""
    total = same_other.sum() + other_same.sum()
    return float(same_other.sum() / total) if total else float("nan")


def clustering_score(
    values: np.ndarray, target: np.ndarray, site: np.ndarray, seeds: int = 20
) -> float:
    """Adjusted Rand index of clusters with classes, less that with sites.

    Clusters are k-means of normalised embeddings, as many (2 to 30) as have the highest
    silhouette by cosine; the mean over ``seeds``. From -1, by site, to 1, by class.

    Source: Koemen et al. 2025, PathoROB, who do so within pairs of classes and sites.

    Args:
        values: embeddings [N, D].
        target: class [N].
        site: centre, scanner or other confounder [N].
        seeds: clusterings.
    """
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    unit = values.astype(np.float64) / np.maximum(norm, 1e-12)
    rows = np.unique(np.linspace(0, len(unit) - 1, _MOST_ROWS).round().astype(int))
    unit, target, site = unit[rows], target[rows], site[rows]
    most = min(_MOST_CLUSTERS, len(unit) - 1)
    nums = range(2, most + 1)
    fits = [_clusters(unit, num, 0) for num in nums]
    num = nums[int(np.argmax([_silhouette(unit, labels) for labels in fits]))]
    found = [_clusters(unit, num, seed) for seed in range(seeds)]
    scores = [
        adjusted_rand_score(target, labels) - adjusted_rand_score(site, labels)
        for labels in found
    ]
    return float(np.mean(scores))


def _clusters(unit: np.ndarray, num: int, seed: int) -> np.ndarray:
    kmeans = KMeans(num, n_init=1, random_state=seed)  # pyright: ignore
    return kmeans.fit_predict(unit)


def _silhouette(unit: np.ndarray, labels: np.ndarray) -> float:
    if len(np.unique(labels)) < 2:  # fewer distinct rows than clusters
        return -1.0
    return float(silhouette_score(unit, labels, metric="cosine"))
