"""What a model in training has on the validation bags of its fold."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mshisto_ray.learning.targets import FittedTarget
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.scoring import outputs_of_draws, values_of
from mshisto_ray.mil.input.bags import Bags


class FoldValidation:
    """Bags with targets on which models of one fold are measured.

    Args:
        bags: with targets.
        batches: of the fold.
        fitted: the target as the fold's models have it.
        index: the validation bags.
    """

    def __init__(
        self, bags: Bags, batches: Batches, fitted: FittedTarget, index: np.ndarray
    ):
        assert bags.targets is not None
        self._kind, self._truth, self._index = bags.kind, bags.targets, index
        self._batches, self._fitted = batches, fitted
        self._targets = fitted.encode(bags.targets)
        self._weights = fitted.weights(bags.targets)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """``val_loss`` and ``val_<metric>``, the metric that chooses.

        Where random bags vote, the loss is their mean, as in training: a vote changes
        in steps and hardly reflects how confident a model is.
        """
        given = model, self._batches, self._index, self._kind
        return self.judge(*outputs_of_draws(*given))

    def judge(self, each: torch.Tensor, bag: np.ndarray) -> dict[str, float]:
        """As ``measure``, of outputs [M, K] of all draws and the bag of each, [M]."""
        losses = self._kind.loss(each, self._targets[bag])
        if self._weights is not None:
            losses = losses * self._weights[bag]
        _, place, num = np.unique(bag, return_inverse=True, return_counts=True)
        loss = (np.bincount(place, losses.numpy()) / num).mean()
        values = values_of(each, bag, self._batches, self._kind, self._fitted)
        rows = values, self._truth[self._index], np.zeros(len(self._index), np.int64)
        metric = self._kind.chooses
        found = float(self._kind.measure(*rows)[metric][0])
        return {"val_loss": float(loss), f"val_{metric}": found}
