"""Gaussian noise with a strength of its own for each view."""

from __future__ import annotations

import torch

from mshisto_ray.config import InputError
from mshisto_ray.representation.noises import Noise, Strength, normal, unchanged
from mshisto_ray.representation.space import Space


def check(
    views: tuple[int, ...], reduced: bool, *, sigma: float | tuple[float, ...]
) -> None:
    """Refuse another number of strengths than views."""
    num = 1 if reduced else len(views)
    if isinstance(sigma, tuple) and len(sigma) != num:
        raise InputError(
            f"noise.sigma: {len(sigma)} strengths for {num} view(s) of embeddings: "
            "give one a view, or one number; a reduction leaves one view"
        )


def build(space: Space, *, sigma: Strength | tuple[Strength, ...] = 0.0) -> Noise:
    """Add sigma_v * e to the columns of view v; one sigma is that of every view.

    Each sigma is relative to its own view.

    Raises:
        InputError: another number of strengths than views.
    """
    check(space.views, False, sigma=sigma)
    each = sigma if isinstance(sigma, tuple) else (sigma,) * len(space.views)
    if not any(each):
        return unchanged
    parts = [torch.full((n,), s) for s, n in zip(each, space.views, strict=True)]
    scale = torch.cat(parts)

    def add(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = normal(values, generator)
        return noise.mul_(scale.to(values.device)).add_(values)

    return add
