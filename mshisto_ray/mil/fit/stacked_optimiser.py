"""One optimiser for the weights of a stack, whose models may have their own rates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mshisto_ray.mil.fit.optimiser import MILOptimiserConfig, Rates, rate_groups

# What torch.optim calls with fused=True.
_SGD: Callable[..., None] = torch._fused_sgd_  # pyright: ignore[reportPrivateImportUsage]
_ADAM: Mapping[str, Callable[..., None]] = {
    "adam": torch._fused_adam_,  # pyright: ignore[reportPrivateImportUsage]
    "adamw": torch._fused_adamw_,  # pyright: ignore[reportPrivateImportUsage]
}
# As torch.optim.Adam and AdamW have them.
_BETAS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def same_method(config: MILOptimiserConfig) -> MILOptimiserConfig:
    """A config without what models of one stack may have of their own."""
    return config.model_copy(update={"lr": 1.0, "weight_decay": 0.0})


class StackedOptimiser:
    """Steps of all models of a stack.

    Neighbours with equal rates and decay are one part of each weight, which one call
    changes. It calls the fused kernels of ``torch.optim`` itself: what an optimiser of
    torch does around them takes longer than they do for one small model, and each part
    would pay for it.

    Args:
        module: of a ``Stack``; the first axis of its parameters are the models.
        configs: of each model; ``same_method`` of all is equal.
        num_steps: of a whole training.
    """

    def __init__(
        self, module: nn.Module, configs: Sequence[MILOptimiserConfig], num_steps: int
    ):
        self._config = configs[0]
        self._weights = list(module.parameters())
        self._taken = [torch.zeros(()) for _ in self._weights]
        num_states = 2
        if self._config.name == "sgd":
            num_states = 1 if self._config.momentum else 0
        self._states = [
            [torch.zeros_like(w, requires_grad=False) for _ in range(num_states)]
            for w in self._weights
        ]
        place_of = {weight: place for place, weight in enumerate(self._weights)}
        self._counts: list[int] = []
        self._groups: list[dict[str, Any]] = []
        for part, (config, run) in enumerate(itertools.groupby(configs)):
            self._counts.append(len(list(run)))
            for group in rate_groups(module, config):
                places = [place_of[weight] for weight in group.pop("params")]
                self._groups.append({**group, "part": part, "places": places})
        self._rates = Rates(self._groups, self._config, num_steps)
        self._cut()

    def step(self) -> None:
        """Take a step by the gradients of the stack's weights, and clear them."""
        self._rates.advance()
        grads = [weight.grad for weight in self._weights]
        for taken, grad in zip(self._taken, grads, strict=True):
            if grad is not None:
                taken += 1
        parts = [
            () if grad is None else grad.split(self._counts) if self._cuts else (grad,)
            for grad in grads
        ]
        for group in self._groups:
            self._change(group, parts)
        for weight in self._weights:
            weight.grad = None

    def keep(self, places: Sequence[int]) -> None:
        """Keep the weights and the state of the models at these places alone."""
        ends = list(itertools.accumulate(self._counts))
        self._counts = [
            sum(end - num <= place < end for place in places)
            for end, num in zip(ends, self._counts, strict=True)
        ]
        stay = list(places)
        for weight, states in zip(self._weights, self._states, strict=True):
            weight.data = weight.data[stay]
            states[:] = [state[stay] for state in states]
        self._drop_empty()
        self._cut()

    def _change(
        self, group: dict[str, Any], parts: Sequence[Sequence[torch.Tensor]]
    ) -> None:
        """Change the weights of one rate, of neighbours of equal rates."""
        part = group["part"]
        there = [place for place in group["places"] if parts[place]]
        if not there:
            return
        weights = [self._own[place][part] for place in there]
        grads = [parts[place][part] for place in there]
        states = [[own[part] for own in self._own_states[place]] for place in there]
        columns = [list(column) for column in zip(*states, strict=True)]
        given: dict[str, Any] = {
            "lr": group["lr"],
            "weight_decay": group["weight_decay"],
            "maximize": False,
        }
        if self._config.name == "sgd":
            _SGD(
                weights,
                grads,
                columns[0] if columns else [],
                momentum=self._config.momentum,
                dampening=0,
                nesterov=False,
                is_first_step=False,
                **given,
            )
            return
        taken = [self._taken[place] for place in there]
        _ADAM[self._config.name](
            weights, grads, *columns, [], taken, amsgrad=False, **_BETAS, **given
        )

    def _cut(self) -> None:
        """Let the parts be views of the weights and their states."""
        self._cuts = len(self._counts) > 1
        self._own = [weight.detach().split(self._counts) for weight in self._weights]
        self._own_states = [
            [state.split(self._counts) for state in states] for states in self._states
        ]

    def _drop_empty(self) -> None:
        """Forget the parts that no model is left of."""
        kept = [part for part, num in enumerate(self._counts) if num]
        place_of = {part: place for place, part in enumerate(kept)}
        self._groups[:] = [g for g in self._groups if g["part"] in place_of]
        for group in self._groups:
            group["part"] = place_of[group["part"]]
        self._counts = [self._counts[part] for part in kept]
