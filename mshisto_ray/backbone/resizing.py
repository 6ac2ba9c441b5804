"""Resizing of tiles as torch does it, antialiased; by BLAS where that is equal.

torch takes a weighted sum of up to four pixels (along rows, then along columns) in the
order of the pixels, and BLAS with a band matrix of the same weights comes to the same
sums. Of five pixels and more they differ in the last bit, which moves some values to
the next whole number: there, and where a processor's BLAS adds otherwise, torch
resizes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from mshisto_ray.tiling.blas import MOST, WorkMemory

# None: bicubic in floating point, without a limit.
Interpolation = Literal["bilinear", "bicubic"] | None

# Outputs of a block at most, along rows and along columns.
_ALONG, _DOWN = 16, 8
# Lines by which sums are compared with those of torch.
_PROBED = 256

# Of a block: its outputs, its inputs, weights [inputs, outputs].
_Band = tuple[slice, slice, np.ndarray]

_memory = WorkMemory()


def resize(
    batch: torch.Tensor, size: int, interpolation: Interpolation
) -> torch.Tensor:
    """Images [B, 3, H, W] on 0 to 255, uint8 or float, to float [B, 3, size, size]."""
    if batch.shape[-2:] == (size, size):
        return batch.float()
    if batch.dtype == torch.uint8 and batch.device.type == "cpu" and interpolation:
        bands = _find_bands(*batch.shape[-2:], size, interpolation)
        if bands:
            return bands.resize(batch)
    return _resize(batch.float(), size, interpolation)


def _resize(
    batch: torch.Tensor, size: int, interpolation: Interpolation
) -> torch.Tensor:
    if interpolation is None:
        return functional.interpolate(
            batch, (size, size), mode="bicubic", antialias=True
        )
    # As Pillow: along rows, then along columns, each on whole numbers of 8 bits.
    for shape in ((batch.shape[-2], size), (size, size)):
        batch = functional.interpolate(batch, shape, mode=interpolation, antialias=True)
        batch = batch.add_(0.5).floor_().clamp_(0, 255)
    return batch


@dataclass(frozen=True)
class _Bands:
    """Weights of a resizing, as small dense matrices along the diagonal."""

    size: int
    along: list[_Band]
    down: list[_Band]

    def resize(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, H, W] to float32 [B, 3, size, size], whole numbers."""
        size, (num, channels) = self.size, batch.shape[:2]
        resized = torch.empty(num, channels, size, size)
        for tile, out in zip(batch.permute(0, 2, 1, 3), resized, strict=True):
            self._one(tile, out.permute(1, 0, 2).numpy())
        return resized

    def _one(self, tile: torch.Tensor, out: np.ndarray) -> None:
        """uint8 [H, 3, W] to ``out`` [size, 3, size]."""
        height, channels, width = tile.shape
        size = self.size
        lines = _memory("lines", height * channels, width)
        torch.from_numpy(lines).view(tile.shape).copy_(tile)
        narrow = _memory("narrow", height * channels, size)
        for outputs, inputs, weights in self.along:
            np.matmul(lines[:, inputs], weights, out=narrow[:, outputs])
        _round(narrow, narrow)
        narrow = narrow.reshape(height, channels * size)
        short = _memory("short", size, channels * size)
        for outputs, inputs, weights in self.down:
            np.dot(weights.T, narrow[inputs], out=short[outputs])
        _round(short.reshape(out.shape), out)


def _round(values: np.ndarray, out: np.ndarray) -> None:
    """The nearest whole numbers of 8 bits, halves up; changes ``values``."""
    values += 0.5
    np.floor(values, out=out)
    np.clip(out, 0, 255, out=out)


@functools.lru_cache(maxsize=32)
def _find_bands(
    height: int, width: int, size: int, interpolation: Literal["bilinear", "bicubic"]
) -> _Bands | None:
    """The bands of a resizing; None where they do not give what torch gives."""
    along = _bands(_weights(width, size, interpolation), height * 3, _ALONG)
    down = _bands(_weights(height, size, interpolation), size * 3, _DOWN)
    equal = all(
        _equals_torch(num, size, interpolation, bands)
        for num, bands in ((width, along), (height, down))
    )
    return _Bands(size, along, down) if equal else None


def _equals_torch(num: int, size: int, interpolation: str, bands: list[_Band]) -> bool:
    """Whether the sums of ``bands`` are to the last bit those of torch."""
    lines = np.random.default_rng(0).integers(0, 256, (_PROBED, num))
    lines = lines.astype(np.float32)
    shape = (_PROBED, size)
    wanted = functional.interpolate(
        torch.from_numpy(lines)[None, None], shape, mode=interpolation, antialias=True
    )[0, 0].numpy()
    return all(
        np.array_equal(wanted[:, outputs], lines[:, inputs] @ weights)
        and np.array_equal(wanted[:, outputs].T, weights.T @ lines[:, inputs].T)
        for outputs, inputs, weights in bands
    )


def _weights(num: int, size: int, interpolation: str) -> np.ndarray:
    """What torch takes of each of ``num`` pixels for each of ``size``, float32."""
    single = torch.eye(num)[None, None]
    shape = (num, size)
    made = functional.interpolate(single, shape, mode=interpolation, antialias=True)
    return made[0, 0].numpy()


def _bands(weights: np.ndarray, others: int, most: int) -> list[_Band]:
    """Blocks of at most ``most`` outputs, each multiplied by ``others`` lines."""
    num, size = weights.shape
    taps = int(np.count_nonzero(weights, axis=0).max())
    while most > 1 and most * (num / size * most + taps) * others > MOST:
        most //= 2
    bands = []
    for first in range(0, size, most):
        block = weights[:, first : first + most]
        used = np.flatnonzero(block.any(axis=1))
        inputs = slice(int(used[0]), int(used[-1]) + 1)
        outputs = slice(first, first + block.shape[1])
        bands.append((outputs, inputs, np.ascontiguousarray(block[inputs])))
    return bands
