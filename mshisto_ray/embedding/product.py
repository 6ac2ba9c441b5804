"""Products made of tiles: embeddings by an encoder, or JPEG pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import simplejpeg

from mshisto_ray.embedding.colour import Look
from mshisto_ray.encoders import Encoder
from mshisto_ray.store import schema
from mshisto_ray.store.shards import tensor_column

# Chroma as fine as luma: stains differ in colour at the scale of nuclei.
SUBSAMPLING = "444"


@dataclass(frozen=True)
class Unusable:
    """A tile whose value is not kept: its index in the batch and the reason."""

    place: int
    error: str
    message: str


class Product(Protocol):
    """Makes the columns that a directory stores for its tiles.

    Attributes:
        schema: of its shards.
        shape: of one tile's value.
        dtype: of the values.
    """

    schema: pa.Schema
    shape: tuple[int, ...]
    dtype: np.dtype

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, list[Unusable]]:
        """Values [B, *shape] of tiles uint8 [B, H, W, 3], and those not to keep."""
        ...

    def columns(self, values: np.ndarray) -> list[pa.Array]:
        """Columns of values [N, *shape], after those of the place; N may be 0."""
        ...


class Vectors:
    """Embeddings of one encoder, a column per colour mode."""

    def __init__(self, encoder: Encoder, dtype: np.dtype, look: Look):
        kind = pa.from_numpy_dtype(dtype)
        self.schema = schema.embeddings(encoder.dim, kind, look.colours)
        self.shape = (len(look.colours), encoder.dim)
        self.dtype = dtype
        self._encoder = encoder
        self._look = look

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, list[Unusable]]:
        """Embeddings [B, colours, D] of ``dtype``; only finite ones are kept."""
        made = np.stack([self._encoder(seen) for seen in self._look(tiles)], axis=1)
        with np.errstate(over="ignore"):  # an overflow is reported as a failure
            values = made.astype(self.dtype)
        infinite = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
        return values, [
            Unusable(int(i), "NotFinite", self._reason(made[i])) for i in infinite
        ]

    def _reason(self, made: np.ndarray) -> str:
        if np.isfinite(made).all():
            return f"the embedding is not finite in {self.dtype}: use dtype: float32"
        return (
            "the network gives NaN or infinity: use precision: float32 where it "
            "computes in another one, else check the encoder's weights"
        )

    def columns(self, values: np.ndarray) -> list[pa.Array]:
        """A tensor column per colour mode."""
        return [tensor_column(values[:, i]) for i in range(self.shape[0])]


class Pictures:
    """Tiles as they were read, as JPEG."""

    schema = schema.PIXELS
    shape = ()
    dtype = np.dtype(object)

    def __init__(self, quality: int):
        self._quality = quality

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, list[Unusable]]:
        """JPEG streams [B], all kept."""
        streams = np.empty(len(tiles), object)
        for i, tile in enumerate(tiles):
            streams[i] = simplejpeg.encode_jpeg(tile, self._quality, "RGB", SUBSAMPLING)
        return streams, []

    def columns(self, values: np.ndarray) -> list[pa.Array]:
        """One column of bytes."""
        return [pa.array(values.tolist(), pa.binary())]
