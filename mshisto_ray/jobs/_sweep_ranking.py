"""What has become of the points of a sweep: results, order, choice, and the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from mshisto_ray.jobs._decisions import decided
from mshisto_ray.jobs._sweep_config import AnySweepConfig
from mshisto_ray.jobs._sweep_report import plot_name
from mshisto_ray.learning.retraining.refits import (
    RefitInterval,
    num_refits,
    refit_interval,
)
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.learning.sweep.point_source import PointSource
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.sweep.pruning import Pruned, read_pruned
from mshisto_ray.learning.sweep.results import PointResult
from mshisto_ray.learning.sweep.searches import Tried
from mshisto_ray.reporting.page.ranking import SweepRanking, out_of_fold_metrics
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.manifest import write_text

_FAILED, NOISE = "failed.json", "noise.png"


def is_done(config: AnySweepConfig, digest: str) -> bool:
    """Whether a config has its result and the refits that are wanted, or was pruned."""
    if not sweep_results.read_metrics(config.out, digest):
        return pruned_of(config, digest) is not None
    folder = sweep_results.folder(config.out, digest)
    return not config.refits or num_refits(folder) == config.refits


def tried(config: AnySweepConfig, digest: str, point: Point) -> Tried:
    """What a search may know of a point: its validation, no test."""
    target, metric = config.kind, config.chosen_by
    sign = -1 if metric in target.lower_is_better else 1
    found = sweep_results.read_metrics(config.out, digest)
    pruned = None if found else pruned_of(config, digest)
    value = pruned.value if pruned else (found or {}).get(f"val_{metric}_mean")
    if value is None or math.isnan(value):
        return Tried(point.values, None)
    return Tried(point.values, sign * value, pruned is not None)


def write_failed(
    config: AnySweepConfig, source: PointSource, errors: Mapping[str, str]
) -> None:
    """Record why configs failed, for reports that are written later."""
    path = config.out / _FAILED
    known = {d: e for d, e in _read_failed(config).items() if d not in source.begun}
    write_text(path, json.dumps(known | dict(errors), indent=1) + "\n")


def _read_failed(config: AnySweepConfig) -> dict[str, str]:
    path = config.out / _FAILED
    return json.loads(path.read_text()) if path.is_file() else {}


def pruned_of(config: AnySweepConfig, digest: str) -> Pruned | None:
    """How a config was pruned; None if it was not."""
    return read_pruned(config.out, digest, config.prune, config.chosen_by)


def read_ranking(config: AnySweepConfig, source: PointSource) -> SweepRanking:
    """Read the results of all points; compare them with the best on validation."""
    errors = _read_failed(config)
    outcomes = [
        _result(config, digest, point, errors.get(digest))
        for digest, point in source.points.items()
    ]
    ranked = sweep_results.rank(outcomes, config.chosen_by)
    select = config.chosen_by
    compared = (
        sweep_results.compare_with_first(config.out, ranked, select)
        if select and ranked
        else {}
    )
    nested = None
    if select:
        finished = [outcome for outcome in outcomes if outcome.metrics]
        nested = sweep_results.choose_nested(config.out, finished, select)
    plot = config.out / plot_name(config)
    decisions, refits = None, None
    if select and ranked:
        held = nested.value if nested else out_of_fold_metrics(ranked[0])[select]
        refits = _refits(config, outcomes, held)
        chosen = sweep_results.folder(config.out, ranked[0].digest)
        decisions = decided(config, chosen, config.decides) if config.decides else None
    rest = [o for o in outcomes if not o.metrics]
    return SweepRanking(
        ranked,
        [o for o in rest if o.error],
        select,
        compared,
        plot,
        nested,
        decisions,
        refits,
        [o for o in rest if o.pruned],
        [o for o in rest if not (o.error or o.pruned)],
        source.total - len(source.points),
        noise_plot=config.out / NOISE,
    )


def _result(
    config: AnySweepConfig, digest: str, point: Point, error: str | None
) -> PointResult:
    metrics = sweep_results.read_metrics(config.out, digest)
    pruned = None if metrics else pruned_of(config, digest)
    return PointResult(digest, point, metrics, None if pruned else error, pruned)


def _refits(
    config: AnySweepConfig, outcomes: Sequence[PointResult], held: Interval
) -> RefitInterval | None:
    """The interval that includes training and choosing, where refits are wanted."""
    if not config.refits or config.chosen_by is None:
        return None
    digests = [o.digest for o in outcomes if o.metrics]
    folders = {d: sweep_results.folder(config.out, d) for d in digests}
    return refit_interval(folders, held, config.chosen_by, config.kind)
