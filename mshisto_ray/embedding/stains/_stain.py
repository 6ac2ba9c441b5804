"""The interface of stain normalisations."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Stain(Protocol):
    """Normalises tiles to one staining and leaves glass unchanged."""

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] RGB to the same shape and type."""
        ...
