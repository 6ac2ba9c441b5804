"""Results of the points of a sweep: their folders, order, comparison and choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mshisto_ray.learning import result_files
from mshisto_ray.learning.comparison import Comparison, compare_all
from mshisto_ray.learning.fold_means import pooling_notes
from mshisto_ray.learning.sweep.nested_choice import NestedChoice, choose_within_folds
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.sweep.pruning import Pruned
from mshisto_ray.learning.targets import Target


@dataclass(frozen=True)
class PointResult:
    """The result of a point: metrics, the error, or where it was pruned.

    None of the three: it was not run.
    """

    digest: str
    point: Point
    metrics: Mapping[str, float] | None
    error: str | None
    pruned: Pruned | None = None

    @property
    def target(self) -> Target:
        """What is predicted."""
        return self.point.config.kind

    @property
    def pooling_notes(self) -> list[str]:
        """Lines on values pooled over folds that lie far from those within folds."""
        return pooling_notes(self.metrics or {}, self.target.titles)

    @property
    def warnings(self) -> list[str]:
        """Lines for the user; see ``Experiment.warnings``."""
        return self.point.config.warnings(self.metrics or {})


def folder(out: Path, digest: str) -> Path:
    """The folder with the results of a config."""
    return out / "configs" / digest


def read_metrics(out: Path, digest: str) -> dict[str, float] | None:
    """Metrics of a finished config, None if it has no result."""
    return result_files.read_metrics(folder(out, digest))


def compare_with_first(
    out: Path, ranked: Sequence[PointResult], metric: str
) -> dict[str, Comparison]:
    """Each config's test metric less that of the first, by digest; not the first's.

    Args:
        out: of the sweep.
        ranked: finished configs, the reference first.
        metric: of the target.
    """
    # One after the other: those of a million tiles are large.
    first, *others = (o.point.config.read_test for o in ranked)
    paths = [folder(out, o.digest) for o in ranked]
    models = (read(path) for read, path in zip(others, paths[1:], strict=True))
    found = compare_all(models, first(paths[0]), metric)
    return {o.digest: c for o, c in zip(ranked[1:], found, strict=True)}


def choose_nested(
    out: Path, outcomes: Sequence[PointResult], metric: str
) -> NestedChoice | None:
    """The choice made anew within each fold; None where there is nothing to choose.

    Args:
        out: of the sweep.
        outcomes: finished configs, in the order of the axes.
        metric: that chooses.
    """
    each = [(o.digest, o.point.config, folder(out, o.digest)) for o in outcomes]
    validation = {d: config.read_validation(path) for d, config, path in each}
    known = {d: v for d, v in validation.items() if v is not None}
    if len(outcomes) < 2 or len(known) < len(outcomes):
        return None
    test = {d: config.read_test(path) for d, config, path in each}
    return choose_within_folds(known, test, metric)


def rank(outcomes: Sequence[PointResult], select: str | None) -> list[PointResult]:
    """Finished configs, the best on validation first; without ``select`` as given.

    Test metrics are not used. Equal configs stay in their order; a metric that is not
    defined comes last.
    """
    finished = [o for o in outcomes if o.metrics]
    if select is None:
        return finished

    def key(outcome: PointResult) -> float:
        assert outcome.metrics
        value = outcome.metrics.get(f"val_{select}_mean", math.nan)
        sign = 1 if select in outcome.target.lower_is_better else -1
        return math.inf if math.isnan(value) else sign * value

    return sorted(finished, key=key)
