"""Logarithms of probabilities that stay exact where probabilities round to 0 or 1."""

from __future__ import annotations

import torch
from torch.nn import functional

# Below, the series of log((1 - exp(-t)) / t) to t^2 is exact in float64.
_SMALL = 1e-3


def log_softplus(x: torch.Tensor) -> torch.Tensor:
    """Log of log(1 + exp(x)): close to x where exp(x) underflows."""
    far = x < -15
    # The branch that is not taken must not give a gradient that is not finite.
    near = functional.softplus(x.masked_fill(far, 0.0)).log()
    return torch.where(far, x - x.clamp(max=-15).exp() / 2, near)


def log_one_minus_exp(t: torch.Tensor, log_t: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(-t)) for t > 0; ``log_t`` serves where t itself underflows."""
    small = t < _SMALL
    safe = t.masked_fill(small, 1.0)
    below = safe < 0.7
    middle = (-torch.expm1(-safe.masked_fill(~below, 0.5))).log()
    above = torch.log1p(-torch.exp(-safe.masked_fill(below, 1.0)))
    tiny = t.masked_fill(~small, 0.0)
    series = log_t.masked_fill(~small, 0.0) - tiny / 2 + tiny**2 / 24
    return torch.where(small, series, torch.where(below, middle, above))
