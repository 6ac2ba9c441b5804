"""Family of stain normalisations: ``build(*, ...)`` -> Stain."""

from mshisto_ray.embedding.stains._stain import (
    Stain,
)

__all__ = [
    "Stain",
]
