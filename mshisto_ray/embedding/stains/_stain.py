"""What every stain normalisation offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Stain(Protocol):
    """Brings tiles to one staining; glass stays as it is."""

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] RGB to the same shape and type."""
        ...
