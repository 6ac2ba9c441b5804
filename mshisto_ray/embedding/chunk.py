"""Embed one chunk of a slide: plain Python, one process, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from mshisto_ray.embedding.colour import PLAIN, Look
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
    look: Look = PLAIN,
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
        look: stain normalisation, and the colour modes, a column each.

    Returns:
        A table per scale (finest first, rows sorted by (row, col)), and failures.
    """
    failures: list[Failure] = []
    target = schema.embeddings(encoder.dim, pa.from_numpy_dtype(dtype), look.colours)
    parts = _by_scale(tiles)
    values = {
        mpp: np.zeros((part.num_rows, len(look.colours), encoder.dim), dtype)
        for mpp, part in parts.items()
    }
    kept = {mpp: np.zeros(part.num_rows, bool) for mpp, part in parts.items()}
    for mpp, index, pixels in _batches(parts, readings, read, batch_size, failures):
        for i, seen in enumerate(look(pixels)):
            with np.errstate(over="ignore"):  # an overflow is told as a failure
                values[mpp][index, i] = encoder(seen).astype(dtype)
        finite = np.isfinite(values[mpp][index]).all(axis=(1, 2))
        kept[mpp][index] = finite
        failures += [_not_finite(parts[mpp], i, dtype) for i in index[~finite]]
    tables = []
    for mpp, part in parts.items():
        columns = [part[name].filter(pa.array(kept[mpp])) for name in _COPIED]
        vectors = values[mpp][kept[mpp]]
        for i in range(len(look.colours)):
            columns.append(pa.chunked_array([tensor_column(vectors[:, i])]))
        tables.append(pa.table(columns, schema=target))
    return tables, failures


def empty_tables(
    dim: int, dtype: np.dtype, colours: Sequence[str] = PLAIN.colours
) -> list[pa.Table]:
    """What a chunk gives of which nothing could be embedded."""
    kind = pa.from_numpy_dtype(dtype)
    return [schema.embeddings(dim, kind, colours).empty_table()]


def _by_scale(tiles: pa.Table) -> dict[float, pa.Table]:
    """Tiles of each scale, finest first, sorted by (row, col)."""
    mpp, row, col = (tiles[name].to_numpy() for name in ("mpp", "row", "col"))
    order = np.lexsort((col, row))
    return {float(m): tiles.take(order[mpp[order] == m]) for m in np.unique(mpp)}


def _batches(
    parts: Mapping[float, pa.Table],
    readings: Mapping[float, ScaleReading],
    read: ReadTile,
    batch_size: int,
    failures: list[Failure],
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Scale, indices [B] and pixels uint8 [B, H, W, 3] of readable tiles."""
    filling = {mpp: _Batch(batch_size) for mpp in parts}
    for mpp, i, x, y in _cell_by_cell(parts, readings):
        try:
            filling[mpp].add(i, read(readings[mpp], x, y))
        except SlideError as error:
            kind = "crash" if error.name == "Crash" else "input"
            failures.append(_failure(parts[mpp], i, kind, error.name, str(error)))
        if len(filling[mpp].index) == batch_size:
            yield mpp, *filling[mpp].take()
    for mpp, batch in filling.items():
        if batch.index:
            yield mpp, *batch.take()


class _Batch:
    """Tiles of a scale until there are enough; one array for all batches.

    Fresh memory for every batch would cost as much as half of its decoding.
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
        """Indices and pixels, the latter good until the next tile is added."""
        assert self._pixels is not None
        index, self.index = np.array(self.index), []
        return index, self._pixels[: len(index)]


def _cell_by_cell(
    parts: Mapping[float, pa.Table], readings: Mapping[float, ScaleReading]
) -> Iterator[tuple[float, int, int, int]]:
    """Scale, index, x, y of all tiles: those of a coarsest cell in a row.

    What lies together is read together, so that little has to be kept decoded.
    """
    coarsest = max(reading.extent for reading in readings.values())
    keys = []
    for mpp, part in parts.items():
        k = round(coarsest / readings[mpp].extent)
        row, col = part["row"].to_numpy(), part["col"].to_numpy()
        scale = np.full(len(row), mpp)
        keys.append(np.stack([row // k, col // k, scale, np.arange(len(row))], axis=1))
    whole = np.concatenate(keys)
    order = np.lexsort(whole.T[::-1])
    places = {m: (p["x"].to_pylist(), p["y"].to_pylist()) for m, p in parts.items()}
    for _, _, mpp, i in whole[order]:
        xs, ys = places[float(mpp)]
        yield float(mpp), int(i), xs[int(i)], ys[int(i)]


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
