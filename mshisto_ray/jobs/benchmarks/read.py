"""Reading tiles: every way to read against a plain OpenSlide and PIL loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import openslide
from PIL import Image
from pydantic import Field

from mshisto_ray.config import InputError, InputPath
from mshisto_ray.jobs.benchmarks._benchmark import (
    Benchmark,
    Measure,
    forget_peak_memory,
    interleaved,
    peak_memory_mib,
)
from mshisto_ray.jobs.benchmarks._slides import MadeSlide, make_slides
from mshisto_ray.slides import (
    SlideError,
    open_slide,
)
from mshisto_ray.tiling.cell import CellReader
from mshisto_ray.tiling.reader import Pixels, open_fastest
from mshisto_ray.tiling.resolution import ScaleReading, resolve

_TILE_PX = 256
_SCALES = (0.5, 1.0, 2.0)
_TOLERANCE = 0.02

# Corners x, y in level-0 pixels of every tile of whole cells, reading by reading.
Tiles = list[tuple[ScaleReading, int, int]]


def build(
    *,
    slide: InputPath | None = None,
    mpp: Annotated[float | None, Field(gt=0)] = None,
    cells: Annotated[int, Field(ge=1)] = 36,
    repeats: Annotated[int, Field(ge=1)] = 5,
) -> Benchmark:
    """CPU time per emitted tile of 256 px at 0.5 um/px, one thread.

    Args:
        slide: measure this slide instead of the ones made.
        mpp: of that slide, if its file does not give it.
        cells: squares of 4 x 4 tiles, from the slide's middle.
        repeats: times that each way is measured; medians count.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        slides = [_given(slide, mpp)] if slide else make_slides(folder)
        forget_peak_memory()
        found: dict[str, Measure] = {}
        for item in slides:
            found |= _measure(item, cells, repeats)
        return found | {"read.peak_memory": Measure(peak_memory_mib(), "MiB")}

    return measure


def _given(path: Path, mpp: float | None) -> MadeSlide:
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


def _measure(slide: MadeSlide, cells: int, repeats: int) -> dict[str, Measure]:
    single, linked = _SCALES[:1], _SCALES
    finest = _tiles(slide, single, "native", cells)
    num = len(finest)
    ways: dict[str, tuple[Callable[[], None], int]] = {
        "plain": (partial(_plain, slide, finest), num)
    }
    modes: list[tuple[str, tuple[float, ...], Pixels]] = [
        ("exact", single, "native"),
        ("scaled", single, "scaled"),
        ("linked_native", linked, "native"),
        ("linked_finest", linked, "finest"),
    ]
    for name, scales, pixels in modes:
        tiles = _tiles(slide, scales, pixels, cells)
        ways[name] = (partial(_read, slide, tiles, pixels), len(tiles))
    seconds = interleaved({name: way for name, (way, _) in ways.items()}, repeats)
    per_tile = {name: seconds[name] / num for name, (_, num) in ways.items()}
    plain = 1e3 * float(np.median(per_tile["plain"]))
    found = {f"read.{slide.name}.plain": Measure(plain, "CPU ms/tile")}
    for name, values in per_tile.items():
        if name == "plain":
            continue
        cost = 1e3 * float(np.median(values))
        found[f"read.{slide.name}.{name}"] = Measure(cost, "CPU ms/tile", plain)
        if not name.startswith("linked"):
            ratio = float(np.median(per_tile["plain"] / values))
            measure = Measure(ratio, "x less CPU", plain, slide.targets.get(name))
            found[f"read.{slide.name}.{name}.gain"] = measure
    for name in ("linked_native", "linked_finest"):
        each = float(np.median(per_tile[name] / per_tile["exact"]))
        whole = float(np.median(seconds[name] / seconds["exact"]))
        target = slide.targets.get("linked") if name == "linked_finest" else None
        found[f"read.{slide.name}.{name}.per_tile"] = Measure(
            each, "x finest alone", None, target, "at most"
        )
        found[f"read.{slide.name}.{name}.whole"] = Measure(whole, "x finest alone")
    return found


def _tiles(
    slide: MadeSlide, scales: tuple[float, ...], pixels: Pixels, cells: int
) -> Tiles:
    """Tiles of cells in the slide's middle, cell by cell."""
    opened = open_fastest(slide.path, pixels, open_slide)
    levels = opened.slide.levels
    opened.slide.close()
    readings = resolve(
        slide.mpp, levels, _SCALES, _TILE_PX, _TOLERANCE, pixels == "finest"
    )
    cell = readings[-1].extent
    rows, cols = int(levels[0].height // cell), int(levels[0].width // cell)
    if not rows * cols:
        raise InputError(
            f"benchmark.slide: {slide.path} is smaller than one tile at 2 um/px"
        )
    wide = min(cols, max(1, round(cells**0.5)))
    high = min(rows, -(-cells // wide))
    first_row, first_col = (rows - high) // 2, (cols - wide) // 2
    tiles = []
    for row in range(first_row, first_row + high):
        for col in range(first_col, first_col + wide):
            for reading in readings[: len(scales)]:
                k = round(cell / reading.extent)
                for r in range(row * k, row * k + k):
                    for c in range(col * k, col * k + k):
                        x, y = round(c * reading.extent), round(r * reading.extent)
                        tiles.append((reading, x, y))
    return tiles


def _plain(slide: MadeSlide, tiles: Tiles) -> None:
    """Read as most tools do: a region of level 0 in PIL, resized where needed."""
    handle = openslide.OpenSlide(slide.path)
    for reading, x, y in tiles:
        side = round(reading.extent)
        image = handle.read_region((x, y), 0, (side, side)).convert("RGB")
        if side != _TILE_PX:
            image = image.resize((_TILE_PX, _TILE_PX), Image.Resampling.BICUBIC)
        np.asarray(image)
    handle.close()


def _read(slide: MadeSlide, tiles: Tiles, pixels: Pixels) -> None:
    opened = open_fastest(slide.path, pixels, open_slide)
    readings = {reading.mpp: reading for reading, _, _ in tiles}
    read = CellReader(opened.slide, readings, _TILE_PX)
    for reading, x, y in tiles:
        read(reading, x, y)
    opened.slide.close()
