"""Embed one chunk of a slide: plain Python, one process, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from mshisto_ray.encoders._encoder import Encoder
from mshisto_ray.slides._slide import SlideError
from mshisto_ray.store import schema
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.shards import tensor_column
from mshisto_ray.tiling.resolution import ScaleReading

# Pixels of the tile at (x, y); raises SlideError.
ReadTile = Callable[[ScaleReading, int, int], np.ndarray]

_COPIED = ("slide_id", "mpp", "row", "col", "x", "y", "extent", "tissue", "own")


def embed_chunk(
    tiles: pa.Table,
    readings: Mapping[float, ScaleReading],
    read: ReadTile,
    encoder: Encoder,
    batch_size: int,
    dtype: np.dtype,
) -> tuple[list[pa.Table], list[Failure]]:
    """Embed the tiles of a chunk.

    Batches hold tiles of one scale and never cross the chunk, so results do not
    depend on who runs what. A tile that cannot be read, or whose embedding is not
    finite after the cast, becomes a failure; the others are kept.

    Args:
        tiles: rows of one chunk.
        readings: how each scale is read.
        read: gives a tile's pixels.
        encoder: uint8 [B, H, W, 3] to float32 [B, D].
        batch_size: tiles per forward pass.
        dtype: of the stored vectors.

    Returns:
        A table per scale (finest first, rows sorted by (row, col)), and failures.
    """
    tables, failures = [], []
    target = schema.embeddings(encoder.dim, pa.from_numpy_dtype(dtype))
    mpps = tiles["mpp"].to_numpy()
    for mpp in np.unique(mpps):
        rows = np.flatnonzero(mpps == mpp)
        order = np.lexsort(
            (tiles["col"].to_numpy()[rows], tiles["row"].to_numpy()[rows])
        )
        part = tiles.take(rows[order])
        values = np.zeros((part.num_rows, encoder.dim), dtype)
        kept = np.zeros(part.num_rows, bool)
        batches = _batches(part, readings[float(mpp)], read, batch_size, failures)
        for index, pixels in batches:
            with np.errstate(over="ignore"):  # an overflow is told as a failure
                values[index] = encoder(pixels).astype(dtype)
            finite = np.isfinite(values[index]).all(axis=1)
            kept[index] = finite
            failures += [_not_finite(part, i, dtype) for i in index[~finite]]
        columns = [part[name].filter(pa.array(kept)) for name in _COPIED]
        columns.append(pa.chunked_array([tensor_column(values[kept])]))
        tables.append(pa.table(columns, schema=target))
    return tables, failures


def empty_tables(dim: int, dtype: np.dtype) -> list[pa.Table]:
    """What a chunk gives of which nothing could be embedded."""
    return [schema.embeddings(dim, pa.from_numpy_dtype(dtype)).empty_table()]


def _batches(
    part: pa.Table,
    reading: ScaleReading,
    read: ReadTile,
    batch_size: int,
    failures: list[Failure],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices [B] and pixels uint8 [B, H, W, 3] of readable tiles."""
    xs, ys = part["x"].to_pylist(), part["y"].to_pylist()
    index: list[int] = []
    pixels: list[np.ndarray] = []
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        try:
            pixels.append(read(reading, x, y))
            index.append(i)
        except SlideError as error:
            kind = "crash" if error.name == "Crash" else "input"
            failures.append(_failure(part, i, kind, error.name, str(error)))
        if len(index) == batch_size:
            yield np.array(index), np.stack(pixels)
            index, pixels = [], []
    if index:
        yield np.array(index), np.stack(pixels)


def _not_finite(part: pa.Table, i: int, dtype: np.dtype) -> Failure:
    message = (
        f"the embedding is not finite in {dtype}: use dtype: float32, or look at the "
        "encoder's weights"
    )
    return _failure(part, i, "input", "NotFinite", message)


def _failure(part: pa.Table, i: int, kind, error: str, message: str) -> Failure:
    names = ("slide_id", "chunk", "mpp", "row", "col")
    values = {name: part[name][i].as_py() for name in names}
    return Failure(stage="embed", kind=kind, error=error, message=message, **values)
