"""Means over the steps between two validations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch

from mshisto_ray.training.clock import Clock
from mshisto_ray.training.feeding import Feed
from mshisto_ray.training.step import Stepped

# Metrics of a batch's projections [M, P] (float32) and targets, by name.
Monitor = Callable[[torch.Tensor, Sequence[torch.Tensor]], dict[str, float]]


class Window:
    """Sums over the steps since the last validation."""

    def __init__(self):
        self._losses: list[float] = []
        self._images = 0
        self._counts: Counter[str] = Counter()

    def add(self, feed: Feed, stepped: Stepped) -> None:
        """Count one step."""
        if stepped.taken:
            self._losses.append(stepped.loss)
        self._images += len(feed.batch.tiles)  # of all workers
        for name, count in feed.batch.counts.items():
            self._counts[name] += count

    def metrics(
        self, feed: Feed, stepped: Stepped, monitor: Monitor, clock: Clock
    ) -> dict[str, float]:
        """Means over the window, and the monitor's metrics of its last batch."""
        phases = clock.take()
        seconds = sum(phases.values())
        last = {}
        if stepped.taken:
            last = monitor(stepped.projections.cpu(), feed.targets)
        return {
            "loss": float(np.mean(self._losses)) if self._losses else float("nan"),
            **last,
            "images_per_s": self._images / seconds,
            **{f"{name}_share": spent / seconds for name, spent in phases.items()},
            **{name: float(count) for name, count in self._counts.items()},
        }
