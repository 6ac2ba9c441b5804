"""Family of contrastive losses: ``build(*, ...)`` -> ContrastiveLoss."""

from mshisto_ray.contrastive.losses._loss import (
    full_precision,
    unit_rows,
    without_autocast,
    zero_loss,
)

__all__ = [
    "full_precision",
    "unit_rows",
    "without_autocast",
    "zero_loss",
]
