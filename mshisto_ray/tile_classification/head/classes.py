"""The classes of tiles as a target: what is measured of heads on tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mshisto_ray.learning.targets.classes import ClassesTarget
from mshisto_ray.learning.tile_metrics import METRICS, tile_metrics


@dataclass(frozen=True)
class TileClasses(ClassesTarget):
    """``truth``: class indices int64 [N]; ``values``: probabilities [N, C]."""

    kind = "tile classes"
    noun = "tile"
    counted = True
    chooses = "balanced_accuracy"
    shown = ("balanced_accuracy", "auroc", "pr_auc", "weighted_f1", "kappa")
    titles: ClassVar[Mapping[str, str]] = {
        "balanced_accuracy": "balanced accuracy",
        "auroc": "AUROC",
        "pr_auc": "PR-AUC (average precision)",
        "accuracy": "accuracy",
        "precision": "precision",
        "recall": "recall (sensitivity)",
        "f1": "F1",
        "weighted_f1": "F1, weighted by class",
        "kappa": "Cohen's kappa",
    }
    interval_method = (
        "95 % score intervals over patients (of kappa percentiles) from 1000 "
        "bootstrap replicates, which draw patients with all of their tiles"
    )

    def metric_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Of ``learning.tile_metrics``."""
        return METRICS

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        groups: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """``tile_metrics``, of the rows as they are."""
        assert weights is None, "replicates of tiles come from counts per patient"
        together = np.zeros(len(truth), np.int64)
        found = tile_metrics(values, truth, together).values
        return {name: np.array([value]) for name, value in found.items()}
