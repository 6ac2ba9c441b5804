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

    A cell is the area of one tile of the coarsest scale. If all scales are averages
    of level 0 by powers of two, a cell is read once, in blocks of a finest tile that
    stay in the processor's cache, and averaged to all scales; the pixels are identical
    to those of ``read_tile``.
    """

    def __init__(
        self, slide: Slide, readings: Mapping[float, ScaleReading], tile_px: int
    ):
        self._slide = slide
        self._tile_px = tile_px
        self._factors = _shared_factors(readings, tile_px)
        self._side = max(self._factors, default=0) * tile_px
        self._cell: tuple[int, int] | None = None
        self._averages: dict[int, np.ndarray] = {}

    def __call__(self, reading: ScaleReading, x: int, y: int) -> np.ndarray:
        """uint8 [tile_px, tile_px, 3] of the tile at x, y (level-0 pixels).

        Raises:
            SlideError: the region cannot be decoded.
        """
        if not self._factors:
            return read_tile(self._slide, reading, x, y, self._tile_px)
        cell = (y // self._side, x // self._side)
        if cell != self._cell:
            self._cell = cell
            self._averages = self._read_cell(*cell)
        if not self._averages:
            return read_tile(self._slide, reading, x, y, self._tile_px)
        factor = reading.factor
        assert factor is not None
        top = (y - cell[0] * self._side) // factor
        left = (x - cell[1] * self._side) // factor
        px = self._tile_px
        return self._averages[factor][top : top + px, left : left + px]

    def _read_cell(self, row: int, col: int) -> dict[int, np.ndarray]:
        """Averages of a cell by factor; empty if part of it cannot be read."""
        averages = {
            f: np.empty((self._side // f, self._side // f, 3), np.uint8)
            for f in self._factors
        }
        block = min(self._factors) * self._tile_px
        for y in range(0, self._side, block):
            for x in range(0, self._side, block):
                left, top = col * self._side + x, row * self._side + y
                try:
                    pixels, held = read_held(self._slide, 0, left, top, block, block)
                except SlideError:
                    return {}  # its tiles are then read one by one
                if held is not None:
                    return {}
                for f, average in box_averages(pixels, self._factors).items():
                    down, right = (y + block) // f, (x + block) // f
                    averages[f][y // f : down, x // f : right] = average
        return averages


def _shared_factors(
    readings: Mapping[float, ScaleReading], tile_px: int
) -> tuple[int, ...]:
    """Factors of the scales, finest first; empty if scales are read separately."""
    factors = sorted(reading.factor or 0 for reading in readings.values())
    fits = (
        len(factors) > 1
        and factors[0] > 0
        and factors[-1] <= _MAX_FACTOR
        and all(factor.bit_count() == 1 for factor in factors)
        and factors[0] * tile_px % factors[-1] == 0
        and not any(reading.level for reading in readings.values())
    )
    return tuple(factors) if fits else ()
