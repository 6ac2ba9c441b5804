"""Some tiles read and embedded, to see how long all of them will take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mshisto_ray.embedding.chunk import by_scale, group_cells
from mshisto_ray.embedding.product import Product
from mshisto_ray.embedding.reading import Cell, SlideSource
from mshisto_ray.slides import SlideError, in_threads, open_slide
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.cell import CellReader
from mshisto_ray.tiling.record import readings_of


@dataclass(frozen=True)
class ReadSample:
    """Tiles that were read: pixels uint8 [N, H, W, 3], and seconds a tile."""

    pixels: np.ndarray
    seconds: float


def read_some(source: SlideSource, chunk: pa.Table, num: int) -> ReadSample:
    """Read about ``num`` tiles of all scales from the middle of a chunk, in order.

    Args:
        source: slide.
        chunk: rows of one chunk.
        num: tiles, rounded up to whole cells of the coarsest scale.

    Raises:
        SlideError: the slide cannot be opened, or none of these tiles can be read.
        OSError: it cannot be reached.
    """
    cells, _ = group_cells(by_scale(chunk), source.readings)
    chosen = _middle(cells, num)
    slide = open_slide(source.path, source.reader)
    pixels, error = [], None
    try:
        read = CellReader(slide, source.readings, source.tile_px)
        started = time.perf_counter()
        for mpp, x, y in (tile for cell in chosen for tile in cell):
            try:
                pixels.append(read(source.readings[mpp], x, y))
            except SlideError as found:
                error = found
        seconds = time.perf_counter() - started
    finally:
        slide.close()
    if not pixels:
        raise error or SlideError("NoTiles", "the chunk holds no tile")
    return ReadSample(np.stack(pixels), seconds / len(pixels))


def read_sample(
    tiles: TileDirectory, slides: int, num: int, limit_s: float
) -> tuple[list[ReadSample], list[str]]:
    """Tiles from slides of few and of many, and the slides that cannot be read.

    Args:
        tiles: of the cohort.
        slides: how many are read.
        num: tiles of each, rounded up to whole cells.
        limit_s: seconds that a slide may take.
    """
    counts = {
        s: sum(n for _, n in r["tiles_per_scale"]) for s, r in tiles.slides.items()
    }
    ordered = sorted((s for s in counts if counts[s]), key=counts.__getitem__)
    most = min(slides, len(ordered))
    # The middles of equal parts.
    chosen = [ordered[(2 * i + 1) * len(ordered) // (2 * most)] for i in range(most)]

    def read(slide_id: str) -> ReadSample:
        record = tiles.slides[slide_id]
        px = tiles.manifest.recipe["tile_px"]
        readings = readings_of(record)
        source = SlideSource(Path(record["path"]), record["reader"], readings, px)
        chunk = tiles.read_chunk(slide_id, record["num_chunks"] // 2)
        return read_some(source, chunk, num)

    found = in_threads(read, chosen, 1, limit_s)
    problems = [
        f"{slide_id}: cannot be read: {one.name}: {one}"
        for slide_id, one in zip(chosen, found, strict=True)
        if isinstance(one, SlideError)
    ]
    return [one for one in found if isinstance(one, ReadSample)], problems


def _middle(cells: list[Cell], num: int) -> list[Cell]:
    per_cell = sum(map(len, cells)) / len(cells)
    wanted = min(len(cells), -(-num // max(1, round(per_cell))))
    first = (len(cells) - wanted) // 2
    return cells[first : first + wanted]


def time_product(product: Product, pixels: np.ndarray) -> float:
    """Seconds a tile that a product takes for a batch [B, H, W, 3], once warm."""
    product(pixels[:1])
    started = time.perf_counter()
    product(pixels)
    return (time.perf_counter() - started) / len(pixels)
