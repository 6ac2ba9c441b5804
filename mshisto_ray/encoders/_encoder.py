"""The interface of encoders."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mshisto_ray.config import InputError


class Encoder(Protocol):
    """Maps tiles to embeddings.

    ``dim`` is the width D; ``digest`` identifies weights and input transform, so that
    embeddings of two encoders are never mixed.
    """

    dim: int
    digest: str

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] RGB to float32 [B, D]."""
        ...


def check_takes(encoder: Encoder, tile_px: int) -> None:
    """Raise InputError if an encoder cannot take tiles of this size."""
    try:
        encoder(np.zeros((1, tile_px, tile_px, 3), np.uint8))
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"encoder: it does not take tiles of {tile_px} px ({error}); set fit: "
            "resize (or crop) and size, or tile with another tile_px"
        ) from None
