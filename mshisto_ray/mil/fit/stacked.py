"""Several models of one shape stacked into one, so that a step trains all of them.

For small bags the calls dominate the cost of a step; a stack makes one call where its
models would make one each. Rows of a batch lie model by model, and every linear layer
multiplies each model's rows with that model's weights.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from mshisto_ray.mil.poolings import (
    Pooled,
)

# Grouped products need rows of a multiple of 16 bytes: widths are padded with zeros,
# whose gradients are zero, so that no optimiser changes them.
_WHOLE = 4


class Rows:
    """Which rows of a batch belong to which model, set before each forward pass."""

    def __init__(self) -> None:
        self._counts: dict[int, list[int]] = {}
        self._ends: dict[int, torch.Tensor] = {}

    def set(self, instances: Sequence[int], bags: Sequence[int]) -> None:
        """Rows of each model among the batch's instances, and among its bags."""
        # Equal totals mean bags of one instance: both are then counted alike.
        self._counts = {sum(counts): list(counts) for counts in (bags, instances)}
        self._ends = {
            total: torch.tensor(list(itertools.accumulate(counts)), dtype=torch.int32)
            for total, counts in self._counts.items()
        }

    def counts(self, values: torch.Tensor) -> list[int]:
        """Rows of each model among values [N, ...], of instances or of bags."""
        return self._counts[len(values)]

    def ends(self, values: torch.Tensor) -> torch.Tensor:
        """Where each model's rows end, int32 [S]."""
        return self._ends[len(values)]


class _StackedLinear(nn.Module):
    """``nn.Linear`` of every model: weights [S, in + 1, out], the bias the last row."""

    def __init__(self, layers: Sequence[nn.Linear], rows: Rows):
        super().__init__()
        self._rows, self._out = rows, layers[0].out_features
        self.in_features = self._ones = layers[0].in_features
        self._fill = _WHOLE - self._ones % _WHOLE
        whole = [
            torch.cat([layer.weight.detach().t(), layer.bias.detach()[None]])
            for layer in layers
        ]
        fill = (0, -self._out % _WHOLE, 0, self._fill - 1)
        self.weight = nn.Parameter(functional.pad(torch.stack(whole), fill))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[N, in] to [N, out]."""
        ends = self._rows.ends(values)
        values = functional.pad(values, (0, self._fill))
        values[:, self._ones] = 1
        return functional.grouped_mm(values, self.weight, offs=ends)[:, : self._out]

    def copy_to(self, layer: nn.Linear, place: int) -> None:
        """Copy the weights of the model at ``place`` into its own layer."""
        with torch.no_grad():
            own = self.weight[place, :, : self._out]
            layer.weight.copy_(own[: self._ones].t())
            layer.bias.copy_(own[self._ones])


class _StackedDropout(nn.Module):
    """``nn.Dropout`` of every model, each with its own random numbers."""

    def __init__(self, p: float, rows: Rows, generators: list[torch.Generator]):
        super().__init__()
        self._keep, self._rows, self._generators = 1 - p, rows, generators

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[N, D] to [N, D]."""
        noise = torch.empty_like(values)
        parts = noise.split(self._rows.counts(values))
        for part, generator in zip(parts, self._generators, strict=True):
            part.bernoulli_(self._keep, generator=generator)
        return values * noise.div_(self._keep)


def can_stack(model: nn.Module) -> bool:
    """Whether all parameters lie in linear layers with a bias, which can be stacked.

    A module whose layers see rows that are neither the instances of a batch nor its
    bags declares ``HAS_OTHER_ROWS``: which model such a row belongs to is not known.
    """
    if any(getattr(m, "HAS_OTHER_ROWS", False) for m in model.modules()):
        return False
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if any(layer.bias is None for layer in layers):
        return False
    return {*model.parameters()} == {p for m in layers for p in m.parameters()}


class Stack:
    """Models of one shape, trained together.

    Args:
        models: untrained; ``can_stack`` is true for them. They get the trained weights
            when they leave the stack.
        generators: random numbers of each model's dropout.
    """

    def __init__(
        self, models: Sequence[nn.Module], generators: Sequence[torch.Generator]
    ):
        self.rows = Rows()
        self._models, self._generators = list(models), list(generators)
        self.module = copy.deepcopy(models[0]).train()
        self._linear: dict[str, _StackedLinear] = {}
        for name, layer in models[0].named_modules():
            if isinstance(layer, nn.Linear):
                layers = [model.get_submodule(name) for model in models]
                stacked = _StackedLinear(layers, self.rows)  # pyright: ignore[reportArgumentType]
                self.module.set_submodule(name, stacked)
                self._linear[name] = stacked
            elif isinstance(layer, nn.Dropout):
                dropout = _StackedDropout(layer.p, self.rows, self._generators)
                self.module.set_submodule(name, dropout)

    def __call__(
        self,
        h: torch.Tensor,
        offsets: torch.Tensor,
        instances: Sequence[int],
        bags: Sequence[int],
        places: Callable[[], torch.Tensor] | None = None,
    ) -> Pooled:
        """Instances [N, D] of all models and offsets [B + 1] of all bags to ``Pooled``.

        ``instances[s]``, ``bags[s]``: numbers of instances and bags of model s;
        ``places``: see ``MILModel.forward``.
        """
        self.rows.set(instances, bags)
        return self.module(h, offsets, (), places)

    def leave(self, places: Sequence[int], optimiser: torch.optim.Optimizer) -> None:
        """Remove the models at these places and copy their trained weights to them."""
        for place in places:
            for name, stacked in self._linear.items():
                stacked.copy_to(self._models[place].get_submodule(name), place)  # pyright: ignore[reportArgumentType]
        stay = [i for i in range(len(self._models)) if i not in set(places)]
        self._models[:] = [self._models[i] for i in stay]
        self._generators[:] = [self._generators[i] for i in stay]
        for parameter in self.module.parameters():
            state = optimiser.state[parameter]
            for key, value in state.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    state[key] = value[stay].clone()
            parameter.data, parameter.grad = parameter.data[stay].clone(), None
