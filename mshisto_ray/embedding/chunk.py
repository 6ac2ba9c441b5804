"""Embed one chunk of a slide, read once for all products; without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mshisto_ray.embedding.product import Product
from mshisto_ray.embedding.reading import Answer, Cell, Run
from mshisto_ray.slides import (
    SlideError,
)
from mshisto_ray.store.failures import Failure
from mshisto_ray.tiling.resolution import ScaleReading

# Yields the pixels of each tile of the cells, or the error, in order.
ReadCells = Callable[[Run], Iterator[Answer]]

_COPIED = ("slide_id", "mpp", "row", "col", "x", "y", "extent", "tissue", "own")


@dataclass
class ChunkResult:
    """Tables and failures of one product for a chunk.

    ``tables``: one per scale (finest first, rows sorted by (row, col)).
    """

    tables: list[pa.Table]
    failures: list[Failure]


def embed_chunk(
    tiles: pa.Table,
    readings: Mapping[float, ScaleReading],
    read: ReadCells,
    products: Sequence[Product],
    batch_size: int,
    on_tiles: Callable[[int], None] = lambda tiles: None,
) -> list[ChunkResult]:
    """Make every product of the tiles of a chunk, reading each tile once.

    Batches hold tiles of one scale and never cross the chunk, so results do not
    depend on the worker, nor on the other products. A tile that cannot be read, or
    whose value is unusable, becomes a failure; the others are kept.

    Args:
        tiles: rows of one chunk.
        readings: how each scale is read.
        read: gives the pixels of tiles, cell by cell.
        products: what to make of the tiles.
        batch_size: tiles per call of a product.
        on_tiles: called after each batch with the number of tiles made so far.
    """
    parts = by_scale(tiles)
    filled = [_ProductValues(product, parts) for product in products]
    num = 0
    for mpp, index, pixels in _batches(parts, readings, read, batch_size, filled):
        for one in filled:
            one.add(mpp, index, pixels)
        num += len(index)
        on_tiles(num)
    return [ChunkResult(one.tables(), one.failures) for one in filled]


def empty_tables(product: Product) -> list[pa.Table]:
    """Empty tables for a failed chunk."""
    return [product.schema.empty_table()]


class _ProductValues:
    """Values of one product for a chunk, filled in batch by batch."""

    def __init__(self, product: Product, parts: Mapping[float, pa.Table]):
        self.failures: list[Failure] = []
        self._product = product
        self._parts = parts
        self._kept = {m: np.zeros(part.num_rows, bool) for m, part in parts.items()}
        self._values = {
            mpp: np.zeros((part.num_rows, *product.shape), product.dtype)
            for mpp, part in parts.items()
        }

    def add(self, mpp: float, index: np.ndarray, pixels: np.ndarray) -> None:
        self._values[mpp][index], unusable = self._product(pixels)
        self._kept[mpp][index] = True
        for one in unusable:
            self._kept[mpp][index[one.place]] = False
            self.fail(mpp, index[one.place], "input", one.error, one.message)

    def fail(self, mpp: float, i: int, kind: Any, error: str, message: str) -> None:
        names = ("slide_id", "chunk", "mpp", "row", "col")
        place = {name: self._parts[mpp][name][i].as_py() for name in names}
        failure = Failure(
            stage="embed", kind=kind, error=error, message=message, **place
        )
        self.failures.append(failure)

    def tables(self) -> list[pa.Table]:
        tables = []
        for mpp, part in self._parts.items():
            kept = self._kept[mpp]
            columns = [part[name].filter(pa.array(kept)) for name in _COPIED]
            made = self._product.columns(self._values[mpp][kept])
            columns += [pa.chunked_array([column]) for column in made]
            tables.append(pa.table(columns, schema=self._product.schema))
        return tables


def by_scale(tiles: pa.Table) -> dict[float, pa.Table]:
    """Tiles of each scale, finest first, sorted by (row, col)."""
    mpp, row, col = (tiles[name].to_numpy() for name in ("mpp", "row", "col"))
    order = np.lexsort((col, row))
    return {float(m): tiles.take(order[mpp[order] == m]) for m in np.unique(mpp)}


def _batches(
    parts: Mapping[float, pa.Table],
    readings: Mapping[float, ScaleReading],
    read: ReadCells,
    batch_size: int,
    filled: Sequence[_ProductValues],
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Scale, indices [B] and pixels uint8 [B, H, W, 3] of readable tiles."""
    filling = {mpp: _Batch(batch_size) for mpp in parts}
    cells, order = group_cells(parts, readings)
    for (mpp, i), pixels in zip(order, read(cells), strict=True):
        if isinstance(pixels, SlideError):
            for one in filled:
                one.fail(mpp, i, pixels.kind, pixels.name, str(pixels))
            continue
        filling[mpp].add(i, pixels)
        if len(filling[mpp].index) == batch_size:
            yield mpp, *filling[mpp].take()
    for mpp, batch in filling.items():
        if batch.index:
            yield mpp, *batch.take()


class _Batch:
    """Tiles of a scale, up to the batch size; one array serves all batches.

    New memory for every batch would cost half as much as its decoding.
    """

    def __init__(self, size: int):
        self.index: list[int] = []
        self._size = size
        self._pixels: np.ndarray | None = None

    def add(self, index: int, pixels: np.ndarray) -> None:
        if self._pixels is None:
            self._pixels = np.empty((self._size, *pixels.shape), np.uint8)
        self._pixels[len(self.index)] = pixels
        self.index.append(index)

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and pixels; the pixels are valid until the next tile is added."""
        assert self._pixels is not None
        index, self.index = np.array(self.index), []
        return index, self._pixels[: len(index)]


def group_cells(
    parts: Mapping[float, pa.Table], readings: Mapping[float, ScaleReading]
) -> tuple[list[Cell], list[tuple[float, int]]]:
    """All tiles, grouped by coarsest cell, with their scales and indices.

    Neighbours are read together, so that few decoded native tiles are cached.
    """
    coarsest = max(reading.extent for reading in readings.values())
    keys = []
    for mpp, part in parts.items():
        k = round(coarsest / readings[mpp].extent)
        row, col = part["row"].to_numpy(), part["col"].to_numpy()
        scale = np.full(len(row), mpp)
        keys.append(np.stack([row // k, col // k, scale, np.arange(len(row))], axis=1))
    whole = np.concatenate(keys)
    whole = whole[np.lexsort(whole.T[::-1])]
    places = {m: (p["x"].to_pylist(), p["y"].to_pylist()) for m, p in parts.items()}
    cells: list[Cell] = []
    order, last = [], None
    for row, col, mpp, i in whole.tolist():
        if (row, col) != last:
            cells.append([])
            last = (row, col)
        xs, ys = places[mpp]
        cells[-1].append((mpp, xs[int(i)], ys[int(i)]))
        order.append((mpp, int(i)))
    return cells, order
