"""Family of reductions of embeddings, fitted on the training fold."""

from mshisto_ray.representation.reductions._reduction import (
    LinearReduction,
    Reduction,
    State,
    check_width,
    scaled,
)

FAMILY = "mshisto_ray.representation.reductions"

__all__ = [
    "FAMILY",
    "LinearReduction",
    "Reduction",
    "State",
    "check_width",
    "scaled",
]
