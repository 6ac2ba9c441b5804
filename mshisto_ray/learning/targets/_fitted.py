"""The interface of a target as one fold model has it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch


class FittedTarget(ABC):
    """A target as one fold model has it: fitted on the bags that it learns from.

    Attributes:
        of_outputs: whether ``after`` fits something.
    """

    of_outputs: ClassVar[bool] = False

    def after(self, outputs: torch.Tensor, truth: np.ndarray) -> FittedTarget:
        """With what is fitted to outputs of the trained model.

        Args:
            outputs: float64 [B, K], of the bags that it learned from.
            truth: their targets, [B, ...].
        """
        return self

    @property
    def measured_with(self) -> dict[str, Any]:
        """What metrics of its predictions need to know, as JSON values.

        ``Target.knowing`` takes it.
        """
        return {}

    @property
    def state(self) -> dict[str, Any]:
        """What was fitted, as JSON values; ``Target.restore`` takes it."""
        return {}

    @abstractmethod
    def encode(self, truth: np.ndarray) -> torch.Tensor:
        """Targets [B, ...] as the loss takes them."""

    def weights(self, truth: np.ndarray) -> torch.Tensor | None:
        """Weight of each bag's loss, float32 [B]; None: all alike."""
        return None

    @abstractmethod
    def link(self, outputs: torch.Tensor) -> np.ndarray:
        """Outputs of the model, float64 [M, K], to predicted values [M, V]."""
