"""What every encoder offers, and the precision it runs at."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch

from mshisto_ray.config import InputError

Precision = Literal["float32", "bfloat16"]


class Encoder(Protocol):
    """Tiles to embeddings.

    ``dim`` is the width D; ``digest`` identifies weights and input transform, so that
    embeddings of two encoders are never mixed.
    """

    dim: int
    digest: str

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] RGB to float32 [B, D]."""
        ...


def resolve_precision(
    wanted: Literal["auto", "float32", "bfloat16"], device: str
) -> Precision:
    """``auto`` is bfloat16 where the hardware multiplies it natively, else float32.

    For training. Embedding does not use it: bfloat16 features have other neighbours.
    """
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    else:
        native = _cpu_has_bfloat16()
    return "bfloat16" if native else "float32"


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def check_takes(encoder: Encoder, tile_px: int) -> None:
    """Refuse an encoder that cannot take tiles of this size, before any work."""
    try:
        encoder(np.zeros((1, tile_px, tile_px, 3), np.uint8))
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"encoder: it does not take tiles of {tile_px} px ({error}); set fit: "
            "resize (or crop) and size, or tile with another tile_px"
        ) from None
