"""The tiles of a slide that reading is measured on: those with most tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide

from mshisto_ray.config import InputError
from mshisto_ray.jobs.benchmarks._slides import MadeSlide
from mshisto_ray.slides import SlideError, open_slide
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.reader import Pixels, open_fastest
from mshisto_ray.tiling.resolution import ScaleReading, resolve

TILE_PX = 256
SCALES = (0.5, 1.0, 2.0)
_TOLERANCE = 0.02
_COLOURED = 20

# Corners x, y in level-0 pixels of every tile of whole cells, reading by reading.
Tiles = list[tuple[ScaleReading, int, int]]


def given_slide(path: Path, mpp: float | None) -> MadeSlide:
    """A slide of the user's, with its own mpp if none is given.

    Raises:
        InputError: not a slide, or neither gives its mpp.
    """
    try:
        slide = open_slide(path)
    except SlideError as error:
        raise InputError(f"benchmark.slide: {path}: {error}") from None
    mpp = mpp or slide.mpp
    slide.close()
    if mpp is None:
        raise InputError(
            f"benchmark.slide: {path} does not give its resolution: give benchmark.mpp"
        )
    return MadeSlide(path.stem, path, mpp, {})


def tiles_of(
    slide: MadeSlide, scales: tuple[float, ...], pixels: Pixels, cells: int
) -> Tiles:
    """Tiles of the cells with most tissue, cell by cell."""
    opened = open_fastest(slide.path, pixels, open_slide)
    levels = opened.slide.levels
    opened.slide.close()
    readings = resolve(
        slide.mpp, levels, SCALES, TILE_PX, _TOLERANCE, pixels == "finest"
    )
    cell = readings[-1].extent
    tiles = []
    for row, col in _tissue(slide, cell, cells):
        for reading in readings[: len(scales)]:
            k = round(cell / reading.extent)
            for r in range(row * k, row * k + k):
                for c in range(col * k, col * k + k):
                    x, y = round(c * reading.extent), round(r * reading.extent)
                    tiles.append((reading, x, y))
    return tiles


def _tissue(slide: MadeSlide, cell: float, num: int) -> list[tuple[int, int]]:
    """Row and column of the cells with most colour: glass costs less to decode."""
    with openslide.OpenSlide(slide.path) as handle:
        width, height = handle.dimensions
        image = np.asarray(handle.get_thumbnail((1024, 1024)).convert("RGB"), int)
    rows, cols = int(height // cell), int(width // cell)
    if not rows * cols:
        raise InputError(
            f"benchmark.slide: {slide.path} is smaller than one tile at 2 um/px"
        )
    coloured = ((image.max(2) - image.min(2)) > _COLOURED).astype(np.float32)
    scale = cell * len(image) / height
    share = {
        (row, col): coloured[
            int(row * scale) : int((row + 1) * scale),
            int(col * scale) : int((col + 1) * scale),
        ].mean()
        for row in range(rows)
        for col in range(cols)
    }
    return sorted(sorted(share, key=lambda place: share[place])[-num:])


def read_pixels(path: Path, mpp: float | None, num: int) -> np.ndarray:
    """The finest tiles with most tissue, uint8 [at most ``num``, 256, 256, 3]."""
    slide = given_slide(path, mpp)
    tiles = tiles_of(slide, SCALES[:1], "native", -(-num // 16))[:num]
    opened = open_fastest(slide.path, "native", open_slide).slide
    read = [read_tile(opened, reading, x, y, TILE_PX) for reading, x, y in tiles]
    opened.close()
    return np.stack(read)
