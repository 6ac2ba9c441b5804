"""What every tissue mask offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class TissueMask(Protocol):
    """Finds tissue on a thumbnail."""

    def __call__(self, pixels: np.ndarray, mpp: float) -> np.ndarray:
        """Tissue of a slide.

        Args:
            pixels: uint8 [h, w, 3].
            mpp: micrometres per thumbnail pixel.

        Returns:
            bool [h, w]; True is tissue.
        """
        ...
