"""The optimiser of a training and its learning rate schedule."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn

from mshisto_ray.config import Config, option


class OptimiserConfig(Config):
    """Optimiser and learning rate schedule."""

    name: Literal["adamw", "adam", "sgd"] = option("adamw", "method")
    lr: float = option(1e-3, "learning rate", gt=0)
    weight_decay: float = option(1e-4, "weight decay (adam, sgd: L2 penalty)", ge=0)
    momentum: float = option(0.9, "of sgd; adam and adamw ignore it", ge=0, lt=1)
    warmup_steps: int = option(0, "linear rise of the learning rate", "steps", ge=0)
    schedule: Literal["constant", "cosine"] = option(
        "cosine", "after the warm-up; cosine ends at 0"
    )
    decay: float = option(0.0, "learning rate times 1 / (1 + decay * step)", ge=0)


def learning_rate(config: OptimiserConfig, step: int, num_steps: int) -> float:
    """The learning rate of a step, counted from 0.

    ``decay`` is the inverse-time decay that Keras calls ``decay``.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    rate = config.lr / (1 + config.decay * step)
    if config.schedule == "cosine":
        done = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
        rate *= (1 + math.cos(math.pi * min(done, 1.0))) / 2
    return rate


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Make the optimiser of a model's parameters."""
    parameters = list(model.parameters())
    keys: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.name == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, fused=True, **keys)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[config.name](parameters, fused=True, **keys)
