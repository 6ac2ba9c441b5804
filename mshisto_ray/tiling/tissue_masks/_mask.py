"""The interface of tissue masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mshisto_ray.tiling.annotation import Region


class TissueMask(Protocol):
    """Finds tissue on a thumbnail.

    A mask's module may say ``NEEDS_ANNOTATION = True``: tissue is where the slide's
    annotation says, and a slide without one is refused.
    """

    def __call__(
        self, pixels: np.ndarray, mpp: float, regions: Sequence[Region] = ()
    ) -> np.ndarray:
        """Tissue of a slide, as a mask over its thumbnail.

        Args:
            pixels: uint8 [h, w, 3].
            mpp: micrometres per thumbnail pixel.
            regions: the slide's annotation, in thumbnail pixels.

        Returns:
            bool [h, w]; True is tissue.

        Raises:
            AnnotationError: the annotation is needed, but unusable.
        """
        ...
