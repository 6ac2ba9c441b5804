"""One optimiser for the weights of a stack, whose models may have their own rates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from mshisto_ray.mil.fit.optimiser import (
    MILOptimiserConfig,
    Rates,
    optimiser_of,
    rate_groups,
)


def same_method(config: MILOptimiserConfig) -> MILOptimiserConfig:
    """A config without what models of one stack may have of their own."""
    return config.model_copy(update={"lr": 1.0, "weight_decay": 0.0})


class StackedOptimiser:
    """Steps of all models of a stack.

    Neighbours with equal rates and decay are one part of each weight, which the
    optimiser changes with one call.

    Args:
        module: of a ``Stack``; the first axis of its parameters are the models.
        configs: of each model; ``same_method`` of all is equal.
        num_steps: of a whole training.
    """

    def __init__(
        self, module: nn.Module, configs: Sequence[MILOptimiserConfig], num_steps: int
    ):
        self._weights = list(module.parameters())
        self._counts: list[int] = []
        self._parts: list[dict[nn.Parameter, torch.Tensor]] = []
        groups = []
        for config, run in itertools.groupby(configs):
            self._counts.append(len(list(run)))
            own = {weight: weight.detach() for weight in self._weights}
            self._parts.append(own)
            for group in rate_groups(module, config):
                group["params"] = [own[weight] for weight in group["params"]]
                groups.append(group)
        self._cut()
        self._optimiser = optimiser_of(groups, configs[0])
        self._rates = Rates(self._optimiser, configs[0], num_steps)

    def step(self) -> None:
        """Take a step by the gradients of the stack's weights, and clear them."""
        for weight in self._weights:
            if weight.grad is None:
                continue
            grads = weight.grad.split(self._counts)
            for own, grad in zip(self._parts, grads, strict=True):
                own[weight].grad = grad
        self._rates.advance()
        self._optimiser.step()
        # Views of a gradient would keep its memory from the next one.
        for weight in (
            *self._weights,
            *(p for own in self._parts for p in own.values()),
        ):
            weight.grad = None

    def keep(self, places: Sequence[int]) -> None:
        """Keep the weights and the state of the models at these places alone."""
        ends = list(itertools.accumulate(self._counts))
        kept = [
            [place - end + num for place in places if end - num <= place < end]
            for end, num in zip(ends, self._counts, strict=True)
        ]
        for own, stay in zip(self._parts, kept, strict=True):
            for part in own.values():
                state = self._optimiser.state[part]
                for key, value in state.items():
                    if isinstance(value, torch.Tensor) and value.shape == part.shape:
                        state[key] = value[stay]
        for weight in self._weights:
            weight.data = weight.data[list(places)]
        self._counts = [len(stay) for stay in kept]
        self._cut()
        self._drop_empty()

    def _cut(self) -> None:
        """Let the parts be views of the weights."""
        for weight in self._weights:
            parts = weight.detach().split(self._counts)
            for own, part in zip(self._parts, parts, strict=True):
                own[weight].data, own[weight].grad = part, None

    def _drop_empty(self) -> None:
        groups = self._optimiser.param_groups
        groups[:] = [g for g in groups if len(g["params"][0])] or groups[:1]
        pairs = list(zip(self._counts, self._parts, strict=True))
        self._counts = [num for num, _ in pairs if num]
        self._parts = [own for num, own in pairs if num]
