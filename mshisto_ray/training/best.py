"""Selection of the best validated encoder."""

from __future__ import annotations

import math

from mshisto_ray.config import InputError

# Metrics that are better when lower; all others when higher.
_LOWER = {"loss", "alignment", "uniformity", "dead_negatives", "collapsed"}


class Best:
    """The best value so far of the named metric."""

    def __init__(self, metric: str):
        self.metric = metric
        self.value = float("nan")

    def require(self, metrics: dict[str, float]) -> None:
        """Raise InputError where the metric is not measured."""
        if self.metric not in metrics:
            raise InputError(
                f"best: no metric {self.metric!r}; there are "
                f"{', '.join(sorted(metrics))}"
            )

    def improves(self, metrics: dict[str, float]) -> bool:
        """Whether the metric is the best so far; if so, its value is kept."""
        self.require(metrics)
        value = metrics[self.metric]
        sign = -1 if self.metric.removeprefix("val_") in _LOWER else 1
        better = math.isnan(self.value) or sign * value > sign * self.value
        if math.isnan(value) or not better:
            return False
        self.value = value
        return True
