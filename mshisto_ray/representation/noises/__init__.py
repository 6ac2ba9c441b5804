"""Family of noises on embeddings, for training only."""

from mshisto_ray.representation.noises._noise import (
    Noise,
    Strength,
    factor_of,
    normal,
    shaped,
    unchanged,
)

FAMILY = "mshisto_ray.representation.noises"

__all__ = [
    "FAMILY",
    "Noise",
    "Strength",
    "factor_of",
    "normal",
    "shaped",
    "unchanged",
]
