"""Family of noises on embeddings, for training only."""

from mshisto_ray.representation.noises._noise import (
    Noise,
)

__all__ = [
    "Noise",
]
