"""Means over the steps between two validations."""

from __future__ import annotations

import numpy as np
import torch

from mshisto_ray.contrastive.feeding import Feed
from mshisto_ray.contrastive.monitor import projection_monitors
from mshisto_ray.contrastive.phases import Clock
from mshisto_ray.contrastive.step import Stepped


class Window:
    """Sums over the steps since the last validation."""

    def __init__(self):
        self._losses: list[float] = []
        self._images = self._missing = self._dropped = 0

    def add(self, feed: Feed, stepped: Stepped) -> None:
        """Count one step."""
        if stepped.taken:
            self._losses.append(stepped.loss)
        self._images += len(feed.positive)  # of all workers
        self._missing += feed.missing
        self._dropped += feed.dropped

    def metrics(
        self, feed: Feed, stepped: Stepped, loss: torch.nn.Module, clock: Clock
    ) -> dict[str, float]:
        """Means over the window; projection monitors of its last batch."""
        phases = clock.take()
        seconds = sum(phases.values())
        last = {}
        if stepped.taken:
            relations = feed.positive, feed.negative
            last = projection_monitors(stepped.projections, *relations, loss)
        return {
            "loss": float(np.mean(self._losses)) if self._losses else float("nan"),
            **last,
            "images_per_s": self._images / seconds,
            **{f"{name}_share": spent / seconds for name, spent in phases.items()},
            "missing_pairs": float(self._missing),
            "dropped_pairs": float(self._dropped),
        }
