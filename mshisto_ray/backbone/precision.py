"""The precision that networks compute in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from mshisto_ray.config import InputError

# tf32: float32 numbers, multiplied with 10 bits by a GPU.
Precision = Literal["float32", "float16", "bfloat16", "tf32"]
_HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@contextlib.contextmanager
def computing(precision: Precision, device: str) -> Iterator[None]:
    """Forward passes within compute in a precision; float32 is float32 on GPUs too."""
    if precision in _HALF:
        with torch.autocast(device.split(":")[0], _HALF[precision]):
            yield
        return
    matmul = bool(torch.backends.cuda.matmul.allow_tf32)
    before = matmul, torch.backends.cudnn.allow_tf32
    _allow_tf32(precision == "tf32", precision == "tf32")
    try:
        yield
    finally:
        _allow_tf32(*before)


def _allow_tf32(matmul: bool, cudnn: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = cudnn


def check_precision(precision: Precision, device: str) -> None:
    """Raise InputError for a precision that a device does not have."""
    if precision == "tf32" and not device.startswith("cuda"):
        raise InputError(
            "precision: tf32 is a GPU's; here the network runs on CPUs: take float32, "
            "or auto"
        )


def resolve_precision(
    wanted: Literal["auto", "float32", "bfloat16"], device: str
) -> Precision:
    """Resolve ``auto``: bfloat16 if the hardware multiplies it natively, else float32.

    Used in training, not in embedding: bfloat16 features have other nearest neighbours.
    """
    if wanted != "auto":
        return wanted
    return "bfloat16" if has_bfloat16(device) else "float32"


def has_bfloat16(device: str) -> bool:
    """Whether the hardware multiplies bfloat16 natively."""
    if device.startswith("cuda"):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    return _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
