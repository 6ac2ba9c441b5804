"""Family of tissue masks: ``build(*, ...)`` -> TissueMask."""

from mshisto_ray.tiling.tissue_masks._mask import TissueMask
from mshisto_ray.tiling.tissue_masks._objects import (
    connected,
    smooth_channels,
    without_small,
)

__all__ = ["TissueMask", "connected", "smooth_channels", "without_small"]
