"""Distances between embeddings of pairs of tiles that should, or should not, be alike.

The average descriptor distance ratio (ADDR) alone rewards embeddings that have partly
collapsed; so it is reported with the AUC of the same distances and the effective rank.

Source: Gildenblat and Klaiman 2019, section 2. The paper defines ADDR on pairs of
annotated classes and reports it for near and far tiles; here these are two metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mshisto_ray.evaluation.exclusion import Exclusion
from mshisto_ray.evaluation.neighbours import distances
from mshisto_ray.statistics.bootstrap import ClusterDraws
from mshisto_ray.statistics.rank_metrics import rank_metrics, weighted_ratio

_ROWS = 20_000  # most rows used for the effective rank
_DISTANCES = 1 << 22  # computed at once


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows [P], as many unlike as like ones for each first row.

    ``unlike``: bool [P], true for far tiles or tiles of another class. ``alone``:
    number of rows left out because they have no like or no unlike partner.
    """

    first: np.ndarray
    second: np.ndarray
    unlike: np.ndarray
    alone: int


def near_far_pairs(
    slide: np.ndarray,
    place: np.ndarray,
    near_um: float,
    far_um: float,
    per_tile: int = 8,
    num_tiles: int = 4000,
    seed: int = 0,
) -> Pairs:
    """Near (like) and far (unlike) tiles of the same slide, drawn at random.

    Distances are between centres. The same number of tiles is drawn from each slide,
    each with ``per_tile`` near and ``per_tile`` far partners, drawn with replacement.

    Args:
        slide: slide of each row, sorted, [N].
        place: centre of each tile, micrometres [N, 2].
        near_um: largest distance of a near pair, micrometres.
        far_um: smallest distance of a far pair, micrometres.
        per_tile: partners of each kind.
        num_tiles: approximate number of tiles with partners; at least one a slide.
        seed: of the draw; that of one slide does not depend on the others.
    """
    names, starts = np.unique(slide, return_index=True)
    share = -(-num_tiles // len(names))
    parts, alone = [], 0
    for name, rows in zip(
        names, np.split(np.arange(len(slide)), starts[1:]), strict=True
    ):
        rng = np.random.default_rng([seed, int(name)])
        anchors = np.sort(rng.choice(rows, min(share, len(rows)), replace=False))
        uniform = rng.random((len(anchors), 2, per_tile))
        step, found = max(1, _DISTANCES // len(rows)), ([], [])
        for start in range(0, len(anchors), step):
            few, drawn = anchors[start : start + step], uniform[start : start + step]
            gap = place[few, None] - place[None, rows]
            square = gap[..., 0] ** 2 + gap[..., 1] ** 2
            near = (square <= near_um**2) & (few[:, None] != rows)
            far = square >= far_um**2
            has = near.any(1) & far.any(1)
            alone += int((~has).sum())
            for unlike, partner in ((False, near), (True, far)):
                second = rows[_choose(partner[has], drawn[has, int(unlike)])]
                found[unlike].append((few[has], second, unlike))
        parts += [*found[False], *found[True]]
    return _join(parts, per_tile, alone)


def label_pairs(
    labels: np.ndarray,
    candidates: np.ndarray,
    exclusion: Exclusion,
    per_tile: int = 8,
    num_tiles: int = 2000,
    seed: int = 0,
) -> Pairs:
    """Pairs of the same class (like) and of two classes (unlike), drawn at random.

    Args:
        labels: class of each row, [N].
        candidates: rows that may get partners, sorted.
        exclusion: rows that are not allowed as partners.
        per_tile: partners of each kind, drawn with replacement.
        num_tiles: most rows with partners, drawn at random.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    anchors = rng.choice(candidates, min(num_tiles, len(candidates)), replace=False)
    everything, parts, alone = np.arange(len(labels)), [], 0
    for row in np.sort(anchors):
        allowed = ~exclusion.is_excluded(row, everything)
        same = labels == labels[row]
        like, unlike = allowed & same, allowed & ~same
        if not (like.any() and unlike.any()):
            alone += 1
            continue
        for kind, partner in ((False, like), (True, unlike)):
            second = _choose(partner[None], rng.random((1, per_tile)))
            parts.append((np.array([row]), second, kind))
    return _join(parts, per_tile, alone)


@dataclass(frozen=True)
class Separation:
    """ADDR and AUC of a set of pairs, each with its bootstrap replicates [R].

    ``addr``: mean distance of unlike over that of like pairs. ``auc``: chance that an
    unlike pair is farther apart than a like one; equal distances count one half.
    """

    addr: float
    auc: float
    addr_replicates: np.ndarray
    auc_replicates: np.ndarray


def separate(
    values: np.ndarray, pairs: Pairs, draws: ClusterDraws, normalise: bool = True
) -> Separation:
    """Compute ADDR and AUC of the pairs' distances.

    Args:
        values: embeddings [N, D].
        pairs: of ``near_far_pairs`` or ``label_pairs``.
        draws: bootstrap over the clusters of the pairs' first rows.
        normalise: see ``evaluation.neighbours.nearest``.
    """
    apart = distances(values, pairs.first, pairs.second, normalise)
    addr, auc = _separation(apart, pairs.unlike, np.ones((1, len(apart))))
    parts = [_separation(apart, pairs.unlike, w) for w in draws.weights()]
    columns = [np.concatenate([p[i] for p in parts] or [np.zeros(0)]) for i in (0, 1)]
    return Separation(float(addr[0]), float(auc[0]), *columns)


def effective_rank(values: np.ndarray, normalise: bool = True, seed: int = 0) -> float:
    """The number of directions that embeddings [N, D] span, 1 to D; 0 if all are equal.

    The exponential of the entropy of the centred embeddings' singular values, divided
    by their sum. Of more than 20,000 rows a random 20,000 are used.

    Source: Roy and Vetterli 2007, The effective rank.
    """
    if len(values) > _ROWS:
        rng = np.random.default_rng(seed)
        values = values[np.sort(rng.choice(len(values), _ROWS, replace=False))]
    vectors = values.astype(np.float64)
    if normalise:
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(length > 0, length, 1)
    # Singular values below the rounding of float32 count as 0.
    noise = 2.0**-24 * np.linalg.norm(vectors)
    vectors -= vectors.mean(0)
    spread = np.sqrt(np.linalg.eigvalsh(vectors.T @ vectors).clip(min=0))
    spread = spread[spread > noise]
    if not len(spread):
        return 0.0
    share = spread / spread.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _separation(
    apart: np.ndarray, unlike: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ADDR [R] and AUC [R] for weightings [R, P] of the pairs."""
    means = [
        weighted_ratio(weights[:, kind] @ apart[kind], weights[:, kind].sum(1))
        for kind in (unlike, ~unlike)
    ]
    return weighted_ratio(means[0], means[1]), rank_metrics(apart, unlike, weights)[
        "auroc"
    ]


def _choose(mask: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw k true columns of each row of a mask [A, n] by uniform [A, k]; [A * k]."""
    row, column = np.nonzero(mask)
    counts = np.bincount(row, minlength=len(mask))
    starts = np.cumsum(counts) - counts
    chosen = (uniform * counts[:, None]).astype(np.int64)
    return column[starts[:, None] + chosen].ravel()


def _join(parts: list, per_tile: int, alone: int) -> Pairs:
    empty = np.zeros(0, np.int64)
    first = [anchors.repeat(per_tile) for anchors, _, _ in parts]
    unlike = [np.full(len(second), kind) for _, second, kind in parts]
    return Pairs(
        np.concatenate([empty, *first]),
        np.concatenate([empty, *(second for _, second, _ in parts)]),
        np.concatenate([empty.astype(bool), *unlike]),
        alone,
    )
