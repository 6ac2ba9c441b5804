"""The rungs of a pruned sweep: what configs had on validation after as many models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.learning.sweep.nested_choice import fold_scores
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.sweep.pruning import (
    Pruned,
    PruningConfig,
    mean_of,
    read_pruned,
    write_pruned,
)


class Rungs:
    """What the configs of a sweep had on validation after their first models.

    Args:
        out: of the sweep; finished and pruned configs are read there.
        config: of the pruning.
        metric: that chooses.
        lower: whether lower is better.
    """

    def __init__(self, out: Path, config: PruningConfig, metric: str, lower: bool):
        self._out, self._config, self._metric = out, config, metric
        self._lower = lower
        self._values: dict[str, tuple[float, ...]] = {}

    def read(self, points: Mapping[str, Point]) -> None:
        """Read what earlier starts of the sweep have left of its points."""
        for digest, point in points.items():
            pruned = read_pruned(self._out, digest, self._config, self._metric)
            values = pruned.values if pruned else self._finished(digest, point)
            if values:
                self._values[digest] = values

    def prunes(self, digest: str, values: Sequence[float], total: int) -> bool:
        """Whether a config ends with these values; if so it is recorded as pruned."""
        num = len(values)
        others = [
            mean_of(v[:num])
            for d, v in self._values.items()
            if d != digest and len(v) >= num
        ]
        self._values[digest] = tuple(values)
        if num not in self._config.rungs(total):
            return False
        if self._config.keeps(mean_of(values), others, self._lower):
            return False
        found = Pruned(self._metric, tuple(values), total)
        write_pruned(self._out, digest, found, self._config)
        return True

    def _finished(self, digest: str, point: Point) -> tuple[float, ...]:
        folder = sweep_results.folder(self._out, digest)
        found = point.config.read_validation(folder)
        if found is None:
            return ()
        return tuple(fold_scores(found, self._metric).values())
