"""A MIL model: scales combined, instances transformed, pooled and classified."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import nn

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.learning.targets import Target
from mshisto_ray.mil.combinations import (
    Finer,
)
from mshisto_ray.mil.poolings import (
    Pooled,
)

POOLINGS = "mshisto_ray.mil.poolings"
COMBINATIONS = "mshisto_ray.mil.combinations"


class MILModel(nn.Module):
    """Linear and ReLU layers of the given widths, dropout, then a pooling.

    Args:
        dims: width of a tile at each scale, coarsest first.
        num_classes: C.
        hidden: widths of the layers; none: the pooling sees the instances as they
            are (after dropout).
        dropout: probability, once, on what the pooling sees.
        pooling: part of the poolings family.
        combine: part of the combinations family; it first turns a tile and its finer
            ones into one instance.
        num_outputs: K, of a target other than classes, for which ``num_classes`` does
            not count; None: the target is classes.
    """

    def __init__(
        self,
        dims: Sequence[int],
        num_classes: int,
        hidden: Sequence[int],
        dropout: float,
        pooling: Part,
        combine: Part,
        num_outputs: int | None = None,
    ):
        super().__init__()
        self.num_outputs = num_outputs
        if num_outputs is not None:
            # A pooling has one output for two classes, and one per class for more.
            num_classes = 2 if num_outputs == 1 else max(num_outputs, 3)
        combination = components.build(COMBINATIONS, combine, dims)
        dim: int = combination.width
        self.combination: nn.Module = combination
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(dim, width), nn.ReLU()]
            dim = width
        if dropout:
            layers.append(nn.Dropout(dropout))
        self.transform = nn.Sequential(*layers)
        self.pooling: nn.Module = components.build(POOLINGS, pooling, dim, num_classes)
        self._needs_places = needs_places(pooling.name)

    def forward(
        self,
        h: torch.Tensor,
        offsets: torch.Tensor,
        finer: Sequence[Finer] = (),
        places: Callable[[], torch.Tensor] | None = None,
        rows: torch.Tensor | None = None,
    ) -> Pooled:
        """Tiles [N, D] and offsets [B + 1] of B bags, and finer ones, to ``Pooled``.

        ``places``: reads where the instances lie, int64 [K, 2], for a pooling that
        needs it. ``rows``: the tile of each instance, int64 [K], where bags share
        tiles, each of which is then combined with its finer ones once; what its
        children weigh is not returned. None: instances are the tiles.
        """
        h, child_attention = self.combination(h, finer)
        if rows is not None:
            h, child_attention = h[rows.to(h.device)], ()
        h = self.transform(h)
        if self._needs_places:
            out = self.pooling(h, offsets, places and places())
        else:
            out = self.pooling(h, offsets)
        if self.num_outputs is not None:
            out = _without_classes(out, self.num_outputs)
        if not child_attention:
            return out
        return dataclasses.replace(out, child_attention=child_attention)


def needs_places(pooling: str) -> bool:
    """Whether a pooling looks at where tiles lie."""
    return bool(components.declaration(POOLINGS, pooling, "NEEDS_PLACES", False))


def _without_classes(out: Pooled, num_outputs: int) -> Pooled:
    """The outputs that a target other than classes takes, and attention."""
    if out.outputs is None:
        raise ValueError("this pooling gives probabilities, so its target is classes")
    return dataclasses.replace(
        out,
        outputs=out.outputs[:, :num_outputs].float(),
        instance_probabilities=None,
        class_attention=None,
    )


def outputs_of(out: Pooled, target: Target) -> torch.Tensor:
    """What the target's loss and link take of a model's output, [B, K]."""
    if target.of_classes:
        return out.log_probabilities
    assert out.outputs is not None
    return out.outputs
