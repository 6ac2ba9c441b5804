"""Several models of one shape stacked into one, so that a step trains all of them.

For small bags the calls dominate the cost of a step; a stack makes one call where its
models would make one each. Rows of a batch lie model by model, and every linear layer
multiplies each model's rows with that model's weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from mshisto_ray.mil.fit.stack_steps import StackRows, StackStep
from mshisto_ray.mil.poolings import Pooled
from mshisto_ray.mil.ragged import segments

# Grouped products need rows of a multiple of 16 bytes: widths are padded with zeros,
# whose gradients are zero, so that no optimiser changes them.
_WHOLE = 4
# Each model's weights are a multiple of so many numbers: an optimiser rounds those that
# are left over otherwise, and which they are would depend on the other models.
_LANES = 16


class Rows:
    """Which rows of a batch belong to which model, set before each forward pass."""

    def __init__(self) -> None:
        self._known: dict[int, StackRows] = {}

    def set(self, instances: StackRows, bags: StackRows) -> None:
        """Rows of each model among the batch's instances, and among its bags."""
        # Equal totals mean bags of one instance: both are then counted alike.
        self._known = {len(rows.owners): rows for rows in (bags, instances)}

    def of(self, values: torch.Tensor) -> StackRows:
        """Rows of each model among values [N, ...], of instances or of bags."""
        return self._known[len(values)]


class _StackedLinear(nn.Module):
    """``nn.Linear`` of every model: weights [S, in + 1, out], the bias the last row."""

    def __init__(self, layers: Sequence[nn.Linear], rows: Rows):
        super().__init__()
        self._rows, self._out = rows, layers[0].out_features
        self.in_features = self._ones = layers[0].in_features
        fill = _WHOLE - self._ones % _WHOLE
        self._ones_and_fill = functional.pad(torch.ones(1, 1), (0, fill - 1))
        whole = [
            torch.cat([layer.weight.detach().t(), layer.bias.detach()[None]])
            for layer in layers
        ]
        sides = (0, -self._out % _WHOLE, 0, fill - 1)
        self.weight = nn.Parameter(functional.pad(torch.stack(whole), sides))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[N, in] to [N, out]."""
        ends, ones = self._rows.of(values).ends, self._ones_and_fill
        values = torch.cat([values, ones.expand(len(values), -1)], 1)
        found = functional.grouped_mm(values, self.weight, offs=ends)
        return found if found.shape[1] == self._out else found[:, : self._out]

    def copy_to(self, layer: nn.Linear, place: int) -> None:
        """Copy the weights of the model at ``place`` into its own layer."""
        own = self.weight.detach()[place, :, : self._out]
        _copy(layer, own[: self._ones].t(), own[self._ones])


class _StackedOutput(nn.Module):
    """``nn.Linear`` to one number, of every model: a product of rows, not of matrices.

    Weights [S, in + 1 and more], the bias after those of the inputs.
    """

    def __init__(self, layers: Sequence[nn.Linear], rows: Rows):
        super().__init__()
        self._rows, self.in_features = rows, layers[0].in_features
        whole = [torch.cat([x.weight.detach()[0], x.bias.detach()]) for x in layers]
        fill = -(self.in_features + 1) % _LANES
        self.weight = nn.Parameter(functional.pad(torch.stack(whole), (0, fill)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[N, in] to [N, 1]."""
        owners, num = self._rows.of(values).owners, self.in_features
        own = self.weight.index_select(0, owners)
        product = values * own[:, :num]
        return product.sum(1, keepdim=True) + own[:, num : num + 1]

    def copy_to(self, layer: nn.Linear, place: int) -> None:
        """Copy the weights of the model at ``place`` into its own layer."""
        own = self.weight.detach()[place]
        _copy(layer, own[None, : self.in_features], own[self.in_features])


def _copy(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


class _StackedDropout(nn.Module):
    """``nn.Dropout`` of every model, each with its own random numbers."""

    def __init__(self, p: float, rows: Rows, generators: list[torch.Generator]):
        super().__init__()
        self._keep, self._rows, self._generators = 1 - p, rows, generators

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[N, D] to [N, D]."""
        if not self.training:
            return values
        noise = torch.empty_like(values)
        parts = noise.split(self._rows.of(values).counts)
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
        models: untrained; ``can_stack`` is true for them.
        generators: random numbers of each model's dropout.
        mean_rows: instances of a bag, the mean over all.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        generators: Sequence[torch.Generator],
        mean_rows: float,
    ):
        self.rows, self._mean_rows = Rows(), mean_rows
        self._generators = list(generators)
        self.module = copy.deepcopy(models[0]).train()
        self._linear: dict[str, _StackedLinear | _StackedOutput] = {}
        for name, layer in models[0].named_modules():
            if isinstance(layer, nn.Linear):
                kind = _StackedOutput if layer.out_features == 1 else _StackedLinear
                layers = [model.get_submodule(name) for model in models]
                stacked = kind(layers, self.rows)  # pyright: ignore[reportArgumentType]
                self.module.set_submodule(name, stacked)
                self._linear[name] = stacked
            elif isinstance(layer, nn.Dropout):
                dropout = _StackedDropout(layer.p, self.rows, self._generators)
                self.module.set_submodule(name, dropout)

    def __call__(
        self,
        h: torch.Tensor,
        step: StackStep,
        places: Callable[[], torch.Tensor] | None = None,
    ) -> Pooled:
        """Instances [N, D] of a step of all models to ``Pooled`` of all their bags.

        ``places``: see ``MILModel.forward``.
        """
        self.rows.set(step.instances, step.bags)
        with segments.form_for(self._mean_rows):
            return self.module(h, step.offsets, (), places)

    def copy_to(self, model: nn.Module, place: int) -> None:
        """Copy the weights at a place to a model of the same shape."""
        for name, stacked in self._linear.items():
            stacked.copy_to(model.get_submodule(name), place)  # pyright: ignore[reportArgumentType]

    def keep(self, places: Sequence[int]) -> None:
        """Keep the random numbers of the models at these places alone.

        Their weights are those of the optimiser, which keeps them with its state.
        """
        self._generators[:] = [self._generators[place] for place in places]
