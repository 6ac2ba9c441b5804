"""Family of contrastive losses: ``build(*, ...)`` -> ContrastiveLoss."""

from mshisto_ray.contrastive.losses._loss import (
    full_precision,
    nothing,
    unit_rows,
    without_autocast,
)

__all__ = [
    "full_precision",
    "nothing",
    "unit_rows",
    "without_autocast",
]
