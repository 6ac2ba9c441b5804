"""Distances between embeddings of pairs of tiles that should, or should not, be alike.

The average descriptor distance ratio (ADDR) alone rewards embeddings that have partly
collapsed; so the AUC of the same distances and the effective rank stand beside it.

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

_ROWS = 20_000  # of the effective rank
_DISTANCES = 1 << 22  # worked out at once


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows [P], as many unlike as like ones for each first row.

    ``unlike``: bool [P], true for far tiles or tiles of another class. ``alone``:
    rows left out because they have no like or no unlike partner.
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

    Distances are between centres. Of each slide the same number of tiles is asked, and
    each has ``per_tile`` near and far partners, drawn with replacement.

    Args:
        slide: slide of each row, sorted, [N].
        place: centre of each tile, micrometres [N, 2].
        near_um: a pair is near up to this.
        far_um: a pair is far from this on.
        per_tile: partners of each kind.
        num_tiles: tiles asked in all, about; at least one a slide.
        seed: of the draw; that of one slide does not depend on the others.
    """
    names, starts = np.unique(slide, return_index=True)
    share = -(-num_tiles // len(names))
    parts, alone = [], 0
    for name, rows in zip(
        names, np.split(np.arange(len(slide)), starts[1:]), strict=True
    ):
        rng = np.random.default_rng([seed, int(name)])
        asked = np.sort(rng.choice(rows, min(share, len(rows)), replace=False))
        uniform = rng.random((len(asked), 2, per_tile))
        step, found = max(1, _DISTANCES // len(rows)), ([], [])
        for start in range(0, len(asked), step):
            few, drawn = asked[start : start + step], uniform[start : start + step]
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
    asking: np.ndarray,
    exclusion: Exclusion,
    per_tile: int = 8,
    num_tiles: int = 2000,
    seed: int = 0,
) -> Pairs:
    """Tiles of the same class (like) and of another one (unlike), drawn at random.

    Args:
        labels: class of each row, [N].
        asking: rows that pairs are made for, sorted.
        exclusion: rows that are no partner.
        per_tile: partners of each kind, drawn with replacement.
        num_tiles: most rows asked, drawn at random.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    asked = rng.choice(asking, min(num_tiles, len(asking)), replace=False)
    everything, parts, alone = np.arange(len(labels)), [], 0
    for row in np.sort(asked):
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
    """How far unlike pairs are from like ones; with values of bootstrap replicates.

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
    """ADDR and AUC of the pairs' distances.

    Args:
        values: embeddings [N, D].
        pairs: of ``near_far_pairs`` or ``label_pairs``.
        draws: over the clusters of the pairs' first rows.
        normalise: see ``evaluation.neighbours.nearest``.
    """
    apart = distances(values, pairs.first, pairs.second, normalise)
    addr, auc = _separation(apart, pairs.unlike, np.ones((1, len(apart))))
    parts = [_separation(apart, pairs.unlike, w) for w in draws.weights()]
    columns = [np.concatenate([p[i] for p in parts] or [np.zeros(0)]) for i in (0, 1)]
    return Separation(float(addr[0]), float(auc[0]), *columns)


def effective_rank(values: np.ndarray, normalise: bool = True, seed: int = 0) -> float:
    """Directions that embeddings [N, D] make use of: between 1 and D; 0: none.

    The exponential of the entropy of the centred embeddings' singular values, divided
    by their sum. Of more than 20,000 rows as many are drawn.

    Source: Roy and Vetterli 2007, The effective rank.
    """
    if len(values) > _ROWS:
        rng = np.random.default_rng(seed)
        values = values[np.sort(rng.choice(len(values), _ROWS, replace=False))]
    vectors = values.astype(np.float64)
    if normalise:
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(length > 0, length, 1)
    # Less than the rounding of float32 is no direction.
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
    """ADDR and AUC for weightings [R, P] of the pairs."""
    means = [
        weighted_ratio(weights[:, kind] @ apart[kind], weights[:, kind].sum(1))
        for kind in (unlike, ~unlike)
    ]
    return weighted_ratio(means[0], means[1]), rank_metrics(apart, unlike, weights)[
        "auroc"
    ]


def _choose(mask: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Columns of a mask [A, n] that has some in each row: uniform [A, k] to [A * k]."""
    row, column = np.nonzero(mask)
    counts = np.bincount(row, minlength=len(mask))
    starts = np.cumsum(counts) - counts
    chosen = (uniform * counts[:, None]).astype(np.int64)
    return column[starts[:, None] + chosen].ravel()


def _join(parts: list, per_tile: int, alone: int) -> Pairs:
    empty = np.zeros(0, np.int64)
    first = [asked.repeat(per_tile) for asked, _, _ in parts]
    unlike = [np.full(len(second), kind) for _, second, kind in parts]
    return Pairs(
        np.concatenate([empty, *first]),
        np.concatenate([empty, *(second for _, second, _ in parts)]),
        np.concatenate([empty.astype(bool), *unlike]),
        alone,
    )
