"""Family of noises on embeddings, for training only."""

from mshisto_ray.representation.noises._noise import (
    Noise,
    Strength,
    factor_of,
    normal,
    shaped,
)

__all__ = [
    "Noise",
    "Strength",
    "factor_of",
    "normal",
    "shaped",
]
