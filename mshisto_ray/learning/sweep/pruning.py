"""Pruning: configs whose first fold models do badly on validation are not finished."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mshisto_ray.config import Config, option
from mshisto_ray.store.manifest import write_text

PRUNED = "pruned"


class PruningConfig(Config):
    """When configs are pruned: asynchronous successive halving over fold models.

    After ``grace`` models, ``grace * reduction`` and so on, a config is kept only if
    its mean over validation patients is in the best 1 / ``reduction`` of the configs
    that have come as far, once there are ``reduction`` of them. All configs have the
    same folds in the same order, so that means are of the same patients.

    Source: Li et al. 2020, asynchronous successive halving; the resource there is
    epochs, here it is fold models, of which each is trained as it would be.
    """

    grace: int = option(
        1, "models of every config before any is pruned", unit="models", ge=1
    )
    reduction: int = option(3, "one of so many is kept", ge=2)

    def rungs(self, total: int) -> list[int]:
        """Numbers of models after which is decided, below all of them."""
        found, rung = [], self.grace
        while rung < total:
            found.append(rung)
            rung *= self.reduction
        return found

    def keeps(self, value: float, others: Sequence[float], lower: bool) -> bool:
        """Whether a config is kept at a rung.

        Args:
            value: its mean so far; one that is not defined is not pruned.
            others: means of the configs that have come there, in whatever order.
            lower: whether lower is better.
        """
        known = [other for other in others if not math.isnan(other)]
        num = len(known) + 1
        if num < self.reduction or math.isnan(value):
            return True
        better = sum((other < value) if lower else (other > value) for other in known)
        return better < math.ceil(num / self.reduction)


@dataclass(frozen=True)
class Pruned:
    """A config that was pruned.

    ``values``: the metric on the validation patients of each model that was trained;
    ``total``: models that there would have been.
    """

    metric: str
    values: tuple[float, ...]
    total: int

    @property
    def value(self) -> float:
        """Mean over its models."""
        return mean_of(self.values)

    def in_words(self, title: str) -> str:
        """After how many models, and the mean; ``title``: of the metric."""
        num = f"{len(self.values)} of {self.total} models"
        return f"{PRUNED} after {num}, validation {title} {self.value:.3f}"


def mean_of(values: Sequence[float]) -> float:
    """Mean of those that are defined, NaN without any."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def write_pruned(out: Path, digest: str, pruned: Pruned, config: PruningConfig) -> None:
    """Record that a config of a sweep was pruned, and by which settings."""
    values = [None if math.isnan(v) else v for v in pruned.values]
    record = {"metric": pruned.metric, "values": values, "total": pruned.total}
    path = out / PRUNED / f"{digest}.json"
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps({**record, "by": config.model_dump()}) + "\n")


def read_pruned(
    out: Path, digest: str, config: PruningConfig | None, metric: str | None
) -> Pruned | None:
    """What was recorded by the same settings and metric; None without."""
    path = out / PRUNED / f"{digest}.json"
    if config is None or not path.is_file():
        return None
    found = json.loads(path.read_text())
    if found["by"] != config.model_dump() or found["metric"] != metric:
        return None
    values = tuple(math.nan if v is None else v for v in found["values"])
    return Pruned(found["metric"], values, found["total"])


def about_pruned(num: int) -> str:
    """What being pruned means."""
    return (
        f"{num} configs were pruned: their first models did worse than others on "
        "validation, so they are no candidates and have no test value. What pruned "
        "them were validation patients of several folds, of whom a choice within one "
        "fold knows nothing"
    )
