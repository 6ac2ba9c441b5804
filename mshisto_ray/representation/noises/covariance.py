"""Gaussian noise shaped as the embeddings themselves."""

from __future__ import annotations

from mshisto_ray.representation.noises import (
    Noise,
    Strength,
    factor_of,
    shaped,
    unchanged,
)
from mshisto_ray.representation.space import Space


def build(space: Space, *, sigma: Strength = 0.0) -> Noise:
    """Add sigma * e with e ~ N(0, C), C the covariance of the training fold.

    It moves an embedding along directions in which embeddings differ, and leaves the
    space between them alone. The mean of standardised embeddings is 0.
    """
    if sigma == 0:
        return unchanged
    return shaped(factor_of(space.rows), space.energy, sigma)
