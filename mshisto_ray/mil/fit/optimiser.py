"""The optimiser of MIL training: a rate for each layer, and its schedule."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import nn

from mshisto_ray.config import Config, option
from mshisto_ray.training.optimiser import OptimiserConfig, learning_rate

# A step of Adam changes every weight by about the rate, so an output of a layer of n
# inputs by up to n times the rate. One rate for all widths either leaves 21 inputs
# untrained or learns 1,500 by heart within an epoch; a rate of _STEP / n does neither.
_STEP = 0.1
# For parameters outside linear layers, as scales of a normalisation.
_USUAL_WIDTH = 256
_MOST_WARMUP = 0.1


class MILOptimiserConfig(Config):
    """The optimiser and its settings."""

    name: Literal["adam", "adamw", "sgd"] = option("adam", "method")
    lr: float | None = option(
        None,
        f"learning rate; null: {_STEP:g} / number of inputs, for each layer by itself "
        "(adam, adamw)",
        gt=0,
    )
    weight_decay: float = option(1e-5, "weight decay (adam, sgd: L2 penalty)", ge=0)
    momentum: float = option(0.9, "of sgd; adam and adamw ignore it", ge=0, lt=1)
    warmup_steps: int = option(
        100, "linear rise of the learning rate, at most a tenth of all steps", ge=0
    )
    schedule: Literal["constant", "cosine"] = option(
        "cosine", "after the warm-up; cosine ends at 0 after `epochs`"
    )

    @model_validator(mode="after")
    def _sgd_has_a_rate(self) -> MILOptimiserConfig:
        if self.name == "sgd" and self.lr is None:
            raise ValueError(
                "lr: null chooses a rate for adam and adamw; give one for sgd"
            )
        return self


def rate_in_words(config: MILOptimiserConfig) -> str:
    """The learning rate, for messages."""
    return f"{_STEP:g} / width" if config.lr is None else f"{config.lr:g}"


def make_optimiser(
    model: nn.Module, config: MILOptimiserConfig
) -> torch.optim.Optimizer:
    """The optimiser of a model's weights, at its full rate."""
    groups = rate_groups(model, config)
    if config.name == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, fused=True)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[config.name](groups, fused=True)


def rate_groups(model: nn.Module, config: MILOptimiserConfig) -> list[dict[str, Any]]:
    """The parameters of a model by their full rate, with their decay."""
    rates: dict[float, list[nn.Parameter]] = {}
    for module in model.modules():
        width = getattr(module, "in_features", _USUAL_WIDTH)
        own = list(module.parameters(recurse=False))
        if own:
            rate = _STEP / width if config.lr is None else config.lr
            rates.setdefault(rate, []).extend(own)
    decay = {"weight_decay": config.weight_decay}
    return [
        {"params": params, "lr": rate, "full_lr": rate, **decay}
        for rate, params in rates.items()
    ]


class Rates:
    """Sets the rates of ``rate_groups`` before each step.

    Args:
        groups: of an optimiser; it may drop some later.
        config: of the optimiser.
        num_steps: of a whole training.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        config: MILOptimiserConfig,
        num_steps: int,
    ):
        warmup = min(config.warmup_steps, int(_MOST_WARMUP * num_steps))
        self._share = OptimiserConfig(
            lr=1.0, warmup_steps=warmup, schedule=config.schedule
        )
        self._groups, self._num_steps = groups, num_steps
        self._step = 0

    def advance(self) -> None:
        """Set the rates of the next step."""
        factor = learning_rate(self._share, self._step, self._num_steps)
        for group in self._groups:
            group["lr"] = factor * group["full_lr"]
        self._step += 1
