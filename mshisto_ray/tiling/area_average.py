"""Exact area average of a rectangle of pixels: the resampling of tiles.

Each output pixel is a weighted sum of rows and columns: by a loop that numba compiles,
where it is installed, else by BLAS. For BLAS the weights are a band matrix, multiplied
block by block: the blocks stay in the processor's cache, and their memory is reused,
because memory that is new for each tile takes longer than the arithmetic.

Sums in float32 depend on their order, which differs between BLAS, the loop and the
processors of a cluster. Those so near to half of a unit that this could show are summed
anew as integers, so that all give the same pixels.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from mshisto_ray.tiling.blas import MOST, WorkMemory

# Averages of a process by BLAS before it loads the loop, which pays from about there.
LOOP_AFTER = 2000
# Output rows, and values of output lines, of a block at most.
_ROWS, _VALUES = 8, 16
# Bits of a weight in exact sums: two of them and a pixel's 8 fit into 63.
BITS = 26

# Of a block: first output, first and last input, weights [outputs, inputs].
_Block = tuple[int, int, int, np.ndarray]
# Of each output: its inputs, their weights, and these as integers; [outputs, taps].
_Shares = tuple[np.ndarray, np.ndarray, np.ndarray]

_memory = WorkMemory()
_averages = itertools.count()


def area_average(
    pixels: np.ndarray, rows: tuple[float, float], cols: tuple[float, float], side: int
) -> np.ndarray:
    """Exact area average of a real-valued rectangle, on a side x side grid.

    Each output pixel is the mean of the input over its share of the rectangle, border
    pixels weighted by the part covered; finer output than input is allowed.

    Args:
        pixels: uint8 [H, W, 3].
        rows: top and bottom of the rectangle in input pixels.
        cols: left and right.
        side: output pixels per side.

    Returns:
        uint8 [side, side, 3], rounded half up; where the output is finer and starts
        at the corner, within 1 of that.
    """
    if (rows[0], cols[0]) == (0, 0) and max(rows[1], cols[1]) <= side:
        return _finer(pixels, side / rows[1], side / cols[1], side)
    pixels = np.ascontiguousarray(pixels)
    height, width, channels = pixels.shape
    down, across = _shares(*rows, side, height), _shares(*cols, side, width)
    loop = compiled_loop() if next(_averages) >= LOOP_AFTER else ""
    if isinstance(loop, str):
        values = _by_blas(pixels, rows, cols, side)
        return _rounded(values, pixels, down, across)
    line = _memory("line", 1, width * channels)[0]
    sums = _memory("sums", 1, side * channels)[0]
    out = np.empty((side, side * channels), np.uint8)
    lines = pixels.reshape(height, width * channels)
    loop(lines, *down, *across, _sure(down, across), line, sums, out)
    return out.reshape(side, side, channels)


@functools.cache
def compiled_loop() -> Callable[..., None] | str:
    """The compiled loop, or why there is none."""
    try:
        from mshisto_ray.tiling.area_loop import average
    except Exception as error:  # no slide fails because of an extra: there is BLAS
        return f"{type(error).__name__}: {error}"
    return average


def _by_blas(
    pixels: np.ndarray, rows: tuple[float, float], cols: tuple[float, float], side: int
) -> np.ndarray:
    height, width, channels = pixels.shape
    lines = _average_rows(pixels.reshape(height, width * channels), rows, side)
    values = _memory("values", side, side * channels)
    for first, start, stop, weights in _line_blocks(*cols, side, width, channels):
        out = values[:, first : first + weights.shape[1]]
        np.matmul(lines[:, start:stop], weights, out=out)
    return values


def _rounded(
    values: np.ndarray, pixels: np.ndarray, down: _Shares, across: _Shares
) -> np.ndarray:
    """Round the sums of BLAS, [side, side * channels], which are overwritten."""
    whole = _memory("whole", *values.shape)
    np.rint(values, out=whole)
    side, channels = len(values), pixels.shape[2]
    out = whole.astype(np.uint8).reshape(side, side, channels)
    np.subtract(values, whole, out=values)
    np.abs(values, out=values)
    near = _where(values > _sure(down, across))
    if len(near):
        i, v = np.divmod(near, side * channels)
        out[i, v // channels, v % channels] = _exact(pixels, down, across, i, v)
    return out


def _sure(down: _Shares, across: _Shares) -> np.float32:
    """Distance to a whole number up to which a sum in float32 rounds to it.

    Each of its products and additions errs by at most 2^-24 of 255, each weight of the
    exact sum by 2^-27.
    """
    steps = down[1].shape[1] + across[1].shape[1] + 1
    return np.float32(0.5 - 1.25 * steps * 255 / 2**24)


def _where(mask: np.ndarray) -> np.ndarray:
    """Places in a mask, flat, by eight of its bytes at once: they are few."""
    flat = mask.reshape(-1)
    size = len(flat) // 8 * 8
    some = np.flatnonzero(flat[:size].view(np.uint64) != 0)
    places = (8 * some[:, None] + np.arange(8)).reshape(-1)
    places = np.concatenate((places, np.arange(size, len(flat))))
    return places[flat[places]]


def _exact(
    pixels: np.ndarray, down: _Shares, across: _Shares, i: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Values ``v`` of output rows ``i``, rounded half up from sums of integers."""
    _, width, channels = pixels.shape
    j, channel = v // channels, v % channels
    starts, places = down[0][i] * (width * channels), across[0][j] * channels
    places += channel[:, None]
    block = pixels.reshape(-1)[starts[:, :, None] + places[:, None, :]]
    total = np.einsum("nr,nrc,nc->n", down[2][i], block, across[2][j])
    return (total + (1 << (2 * BITS - 1))) >> (2 * BITS)


def _finer(pixels: np.ndarray, down: float, across: float, side: int) -> np.ndarray:
    """A grid finer than the pixels, where OpenCV's area average has two weights."""
    fine = cv2.resize(pixels, None, fx=across, fy=down, interpolation=cv2.INTER_AREA)
    return fine[:side, :side]


def _average_rows(
    pixels: np.ndarray, rows: tuple[float, float], side: int
) -> np.ndarray:
    """Means of rows of uint8 [H, V]: float32 [side, V], which the next call reuses."""
    height, width = pixels.shape
    lines = _memory("lines", side, width)
    for first, start, stop, weights in _row_blocks(*rows, side, height, width):
        block = _memory("block", stop - start, width)
        np.copyto(block, pixels[start:stop])
        np.dot(weights, block, out=lines[first : first + len(weights)])
    return lines


@functools.lru_cache(maxsize=64)
def _row_blocks(
    start: float, stop: float, num: int, size: int, width: int
) -> list[_Block]:
    """Blocks of output rows, each of ``width`` values."""
    rows = _ROWS
    while rows > 1 and rows * ((stop - start) / num * rows + 2) * width > MOST:
        rows //= 2
    return list(_blocks(*_shares(start, stop, num, size)[:2], rows))


@functools.lru_cache(maxsize=64)
def _line_blocks(
    start: float, stop: float, num: int, size: int, channels: int
) -> list[_Block]:
    """Blocks of a line of interleaved channels, weights [inputs, outputs]."""
    values, span = _VALUES, (stop - start) / num
    while values > channels and values * (span * values + 2 * channels) * num > MOST:
        values //= 2
    index, share, _ = _shares(start, stop, num, size)
    channel = np.arange(channels)[None, :, None]
    places = (index[:, None] * channels + channel).reshape(num * channels, -1)
    return [
        (first, low, high, np.ascontiguousarray(block.T))
        for first, low, high, block in _blocks(
            places, share.repeat(channels, axis=0), values
        )
    ]


def _blocks(index: np.ndarray, share: np.ndarray, outputs: int) -> Iterator[_Block]:
    """Inputs [N, taps] of each output and their shares, as small dense matrices."""
    for first in range(0, len(index), outputs):
        some = index[first : first + outputs]
        low, high = int(some.min()), int(some.max()) + 1
        weights = np.zeros((len(some), high - low), np.float32)
        of = np.arange(len(some))[:, None]
        np.add.at(weights, (of, some - low), share[first : first + outputs])
        yield first, low, high, weights


@functools.lru_cache(maxsize=128)
def _shares(start: float, stop: float, num: int, size: int) -> _Shares:
    """The pixels of each of ``num`` equal cells and their shares of it."""
    edges = start + (stop - start) * np.arange(num + 1) / num
    low, high = edges[:-1, None], edges[1:, None]
    taps = math.ceil((stop - start) / num) + 1
    index = np.floor(low).astype(np.int64) + np.arange(taps)
    covered = np.clip(np.minimum(high, index + 1) - np.maximum(low, index), 0, None)
    share = (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)
    whole = np.rint(share * np.float32(1 << BITS)).astype(np.int64)
    # A cell that ends past the last pixel by a rounding error is cut there.
    return np.clip(index, 0, size - 1), share, whole
