"""What a fold model gives bags: outputs of draws, and values of bags."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mshisto_ray.learning.targets import Fitted, Target
from mshisto_ray.learning.targets.classes import ClassesTarget
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.model import outputs_of


def log_probabilities(
    model: nn.Module, batches: Batches, index: np.ndarray
) -> torch.Tensor:
    """Log probabilities [B, C] of the bags at ``index``, float64 on the CPU.

    Where random bags vote, of their vote (see ``targets.classes.majority``).
    """
    target = ClassesTarget()
    logs, bag = outputs_of_draws(model, batches, index, target)
    if batches.vote is None:
        return logs
    return torch.from_numpy(_voted(logs.exp().numpy(), bag, target)).log()


def predict_values(
    model: nn.Module,
    batches: Batches,
    index: np.ndarray,
    target: Target,
    fitted: Fitted,
) -> np.ndarray:
    """Values [B, V] of the bags at ``index``; where random bags vote, of their vote."""
    if target.of_classes:
        return log_probabilities(model, batches, index).exp().numpy()
    found = outputs_of_draws(model, batches, index, target)
    return values_of(*found, batches, target, fitted)


def outputs_of_draws(
    model: nn.Module, batches: Batches, index: np.ndarray, target: Target
) -> tuple[torch.Tensor, np.ndarray]:
    """Outputs [M, K] of all draws of the bags, and the bag of each, [M]."""
    model.eval()
    with torch.inference_mode():
        found = [
            outputs_of(model(*batches.draws(draws)), target).double().cpu()
            for draws in batches.in_order(index)
        ]
    return torch.cat(found), batches.all_draws(index)[:, 0]


def values_of(
    outputs: torch.Tensor,
    bag: np.ndarray,
    batches: Batches,
    target: Target,
    fitted: Fitted,
) -> np.ndarray:
    """Values [B, V] of bags from the outputs [M, K] of their draws."""
    values = fitted.link(outputs)
    return values if batches.vote is None else _voted(values, bag, target)


def _voted(values: np.ndarray, bag: np.ndarray, target: Target) -> np.ndarray:
    starts = np.flatnonzero(np.diff(bag, prepend=-1))
    return np.stack([target.vote(part) for part in np.split(values, starts[1:])])
