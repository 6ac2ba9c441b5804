"""Tiles of linked scales from one decode of the cell that holds them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mshisto_ray.slides import (
    Slide,
    SlideError,
    read_held,
)
from mshisto_ray.tiling.pixels import box_averages, read_tile
from mshisto_ray.tiling.resolution import ScaleReading

# Beyond this factor, sums of pixels exceed 16 bits.
_MAX_FACTOR = 16


class CellReader:
    """Reads the pixels of a slide's tiles, to be called cell by cell.

    A cell is the area of one tile of the coarsest scale. Scales that are averages of
    one level by powers of two share a decode: a cell is read once, in blocks of a
    finest tile that stay in the processor's cache, and averaged to all of them; the
    pixels are identical to those of ``read_tile``.
    """

    def __init__(
        self, slide: Slide, readings: Mapping[float, ScaleReading], tile_px: int
    ):
        self._slide = slide
        self._tile_px = tile_px
        self._shared: dict[int, _LevelCells] = {}
        for level in {reading.level for reading in readings.values()}:
            scales = [r for r in readings.values() if r.level == level]
            step = slide.levels[level].downsample
            factors = _shared_factors(scales, tile_px)
            if factors and float(step).is_integer():
                self._shared[level] = _LevelCells(
                    slide, level, int(step), factors, tile_px
                )

    def __call__(self, reading: ScaleReading, x: int, y: int) -> np.ndarray:
        """uint8 [tile_px, tile_px, 3] of the tile at x, y (level-0 pixels).

        Raises:
            SlideError: the region cannot be decoded.
        """
        shared = self._shared.get(reading.level)
        if shared is not None and reading.factor is not None:
            pixels = shared.tile(reading.factor, x, y)
            if pixels is not None:
                return pixels
        return read_tile(self._slide, reading, x, y, self._tile_px)


class _LevelCells:
    """The cell of one level that was read last, ``step`` level-0 pixels a pixel."""

    def __init__(
        self,
        slide: Slide,
        level: int,
        step: int,
        factors: tuple[int, ...],
        tile_px: int,
    ):
        self._slide, self._level, self._step = slide, level, step
        self._factors, self._tile_px = factors, tile_px
        self._side = max(factors) * tile_px
        self._cell: tuple[int, int] | None = None
        # Tiles of the finest scale by row and column in the cell, none if a part of the
        # cell cannot be read; of each other factor the average of the whole cell.
        self._finest: dict[tuple[int, int], np.ndarray] = {}
        self._averages: dict[int, np.ndarray] = {}

    def tile(self, factor: int, x: int, y: int) -> np.ndarray | None:
        """A tile at x, y; None if part of its cell cannot be read."""
        row, col = y // self._step, x // self._step
        cell = (row // self._side, col // self._side)
        if cell != self._cell:
            self._cell = cell
            self._read(*cell)
        if not self._finest:
            return None
        top = (row - cell[0] * self._side) // factor
        left = (col - cell[1] * self._side) // factor
        px = self._tile_px
        if factor == self._factors[0]:
            return self._finest[top // px, left // px]
        return self._averages[factor][top : top + px, left : left + px]

    def _read(self, row: int, col: int) -> None:
        """Keep the tiles of a cell."""
        finest, *coarser = self._factors
        self._finest = {}
        self._averages = {
            f: np.empty((self._side // f, self._side // f, 3), np.uint8)
            for f in coarser
        }
        tiles: dict[tuple[int, int], np.ndarray] = {}
        block = finest * self._tile_px
        for y in range(0, self._side, block):
            for x in range(0, self._side, block):
                left, top = (
                    self._step * at
                    for at in (col * self._side + x, row * self._side + y)
                )
                try:
                    pixels, held = read_held(
                        self._slide, self._level, left, top, block, block
                    )
                except SlideError:
                    return  # its tiles are then read one by one
                if held is not None:
                    return
                found = box_averages(pixels, self._factors)
                tiles[y // block, x // block] = found[finest]
                for f in coarser:
                    down, right = (y + block) // f, (x + block) // f
                    self._averages[f][y // f : down, x // f : right] = found[f]
        self._finest = tiles


def _shared_factors(scales: list[ScaleReading], tile_px: int) -> tuple[int, ...]:
    """Factors of the scales of a level, finest first; empty if read separately."""
    factors = sorted(reading.factor or 0 for reading in scales)
    fits = (
        len(factors) > 1
        and factors[0] > 0
        and factors[-1] <= _MAX_FACTOR
        and all(factor.bit_count() == 1 for factor in factors)
        and factors[0] * tile_px % factors[-1] == 0
    )
    return tuple(factors) if fits else ()
