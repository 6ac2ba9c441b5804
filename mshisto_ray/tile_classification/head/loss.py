"""The focal loss."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class FocalLoss(nn.Module):
    """Mean of -w_t (1 - p_t)^gamma log p_t over tiles, divided by the mean of w_t.

    ``gamma`` 0 is cross-entropy with class weights, number for number.

    Source: Lin et al. 2017, used by Nivaggioli et al. 2023, who give no gamma.
    """

    def __init__(self, gamma: float, weights: torch.Tensor | None = None):
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weights", weights)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits [N, C] and classes [N] to the loss."""
        weights = self.weights
        assert weights is None or isinstance(weights, torch.Tensor)
        if self.gamma == 0:
            return functional.cross_entropy(logits, target, weights)
        logs = logits.log_softmax(1).gather(1, target[:, None])[:, 0]
        # Not quite 0: the slope of a power below 1 is infinite there.
        missing = (-torch.expm1(logs)).clamp(min=1e-12)
        each = -missing.pow(self.gamma) * logs
        if weights is None:
            return each.mean()
        own = weights[target]
        return (own * each).sum() / own.sum()


def balanced_weights(target: torch.Tensor, num_classes: int) -> torch.Tensor:
    """N / (C n_c) for each class, float32 [C]."""
    counts = torch.bincount(target, minlength=num_classes).clamp(min=1)
    return (len(target) / (num_classes * counts)).float()
