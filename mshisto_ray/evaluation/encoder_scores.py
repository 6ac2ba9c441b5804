"""The scores of an encoder on an evaluation plan, with bootstrap replicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mshisto_ray.evaluation.descriptor_distance import effective_rank, separate
from mshisto_ray.evaluation.neighbours import Neighbours
from mshisto_ray.evaluation.plan import Plan
from mshisto_ray.evaluation.retrieval import cross_scale_hits, retrieve
from mshisto_ray.statistics.bootstrap import ClusterDraws, Interval, percentile_interval

_RECALL_AT = (1, 10)


@dataclass(frozen=True)
class Score:
    """A value and its bootstrap replicates [R]; without replicates, no interval."""

    value: float
    replicates: np.ndarray

    @property
    def interval(self) -> Interval:
        """The value with its 95 % interval."""
        return percentile_interval(self.value, self.replicates)


def measure(
    values: np.ndarray,
    coarse: np.ndarray | None,
    plan: Plan,
    normalise: bool = True,
    device: str = "cpu",
) -> tuple[dict[str, Score], Neighbours]:
    """Compute every score of an encoder, and the nearest neighbours of its queries.

    ``hit_at_1, majority_at_5, map_at_k``: mean over the queried classes of the mean
    over their queries; with more than one class also ``<metric>.<class>``.
    ``addr_label, auc_label``: pairs of the same against pairs of different classes.
    ``addr_spatial, auc_spatial``: near against far pairs of a slide.
    ``parent_recall_at_1, _at_10``: a tile's parent is among its nearest coarser tiles.
    ``effective_rank``: without an interval. Without classes there are no queries, and
    no scores of them.

    The bootstrap resamples queries and the first tiles of pairs. The tiles to be found
    are held fixed, so intervals are narrower than the variation between cohorts.

    Args:
        values: embeddings of the plan's tiles [N, D].
        coarse: embeddings of the plan's coarse tiles [M, D].
        plan: of ``make_plan``.
        normalise: see ``evaluation.neighbours.nearest``.
        device: see ``evaluation.neighbours.nearest``.
    """
    task = plan.retrieval
    scores, found = retrieve(task, values, normalise, device)
    result: dict[str, Score] = {}
    if len(task.queries):
        result = _by_class(plan, scores, ClusterDraws(plan.cluster[task.queries]))
    for name, pairs in (("label", plan.by_label), ("spatial", plan.by_distance)):
        if len(pairs.first):
            drawn = ClusterDraws(plan.cluster[pairs.first])
            apart = separate(values, pairs, drawn, normalise)
            result[f"addr_{name}"] = Score(apart.addr, apart.addr_replicates)
            result[f"auc_{name}"] = Score(apart.auc, apart.auc_replicates)
    rows, parents = plan.cross
    if coarse is not None and len(rows):
        hits = cross_scale_hits(
            values[rows], coarse, parents, _RECALL_AT, normalise, device
        )
        drawn = ClusterDraws(plan.cluster[rows]).means(hits)
        for column, k in enumerate(_RECALL_AT):
            name = f"parent_recall_at_{k}"
            result[name] = Score(float(hits[:, column].mean()), drawn[:, column])
    rank = effective_rank(values, normalise)
    result["effective_rank"] = Score(rank, np.zeros(0))
    return result, found


def chance(plan: Plan) -> dict[str, float]:
    """The expected score of embeddings without information, per metric."""
    found = _by_class(plan, plan.retrieval.chance, None)
    levels = {name: score.value for name, score in found.items()}
    for name, pairs in (("label", plan.by_label), ("spatial", plan.by_distance)):
        if len(pairs.first):
            levels |= {f"addr_{name}": 1.0, f"auc_{name}": 0.5}
    if plan.coarse is not None and len(plan.cross[0]):
        share = {k: min(1.0, k / len(plan.coarse)) for k in _RECALL_AT}
        levels |= {f"parent_recall_at_{k}": share[k] for k in _RECALL_AT}
    return levels


def difference(
    first: Mapping[str, Score], second: Mapping[str, Score]
) -> dict[str, Interval]:
    """Paired ``{metric: Interval}`` of first - second, both scored on one plan."""
    return {
        name: percentile_interval(
            first[name].value - second[name].value,
            first[name].replicates - second[name].replicates,
        )
        for name in first
        if len(first[name].replicates)
    }


def _by_class(
    plan: Plan, scores: Mapping[str, np.ndarray], draws: ClusterDraws | None
) -> dict[str, Score]:
    """Scores of each queried class and their mean over classes."""
    task = plan.retrieval
    codes = np.unique(task.labels[task.queries])
    if not len(codes):
        return {}
    columns = np.column_stack(list(scores.values()))
    means, drawn = [], []
    for code in codes:
        own = task.labels[task.queries] == code
        means.append([_mean(column) for column in columns[own].T])
        if draws:
            drawn.append(draws.means(columns, own))
    result: dict[str, Score] = {}
    for m, name in enumerate(scores):
        each = [mean[m] for mean in means]
        replicates = [d[:, m] for d in drawn] or [np.zeros(0)] * len(codes)
        result[name] = Score(float(np.mean(each)), np.mean(replicates, axis=0))
        if len(codes) > 1:
            for code, value, replicate in zip(codes, each, replicates, strict=True):
                of_class = f"{name}.{plan.labelled.classes[code]}"
                result[of_class] = Score(float(value), replicate)
    return result


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
