"""The precision that networks compute in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def resolve_precision(
    wanted: Literal["auto", "float32", "bfloat16"], device: str
) -> Precision:
    """Resolve ``auto``: bfloat16 if the hardware multiplies it natively, else float32.

    Used in training, not in embedding: bfloat16 features have other nearest neighbours.
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
