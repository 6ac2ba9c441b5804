"""Pixels of a small cohort, kept on this node's own disk once they have been read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mshisto_ray.config import Config, InputError, OutputPath, option
from mshisto_ray.training.reading import HeldTiles, IndexedTileReader

_GIB = 1 << 30
_UNREADABLE, _UNKNOWN = -2, -1


class PixelCacheConfig(Config):
    """Where each worker caches pixels, and how many."""

    dir: OutputPath = option(
        Path(tempfile.gettempdir()), "a folder on each node's own disk"
    )
    max_gib: float = option(
        0.0,
        "size per worker, reserved at the start and freed with its process; 0: no "
        "cache, every block is read from the slides",
        "GiB",
        ge=0,
    )


class CachedReader:
    """A reader that caches the first tiles it reads, as many as fit.

    None is evicted for another: blocks recur in no order that a queue could exploit.
    """

    def __init__(
        self,
        reader: IndexedTileReader,
        num_tiles: int,
        tile_px: int,
        config: PixelCacheConfig,
    ):
        self._reader, self._tile_px = reader, tile_px
        each = 3 * tile_px**2
        room = min(num_tiles, int(config.max_gib * _GIB) // each)
        shape = (room, tile_px, tile_px, 3)
        # An unnamed file: its space is freed however this process ends.
        try:
            with tempfile.TemporaryFile(dir=config.dir) as file:
                os.posix_fallocate(file.fileno(), 0, max(1, room * each))
                self._pixels = np.memmap(file, np.uint8, "r+", shape=shape)
        except OSError as error:
            raise InputError(
                f"runtime.pixel_cache: {config.dir} has no room for "
                f"{room * each / _GIB:.2f} GiB ({error}): lower "
                "runtime.pixel_cache.max_gib, or name another dir"
            ) from None
        self._place = np.full(num_tiles, _UNKNOWN)
        self._used = 0

    def __call__(self, tiles: np.ndarray) -> HeldTiles:
        """Read tiles (sorted, unique), with the same bytes as ``IndexedTileReader``."""
        place = self._place[tiles]
        side = self._tile_px
        pixels = np.full((len(tiles), side, side, 3), 255, np.uint8)
        readable = place >= 0
        pixels[readable] = self._pixels[place[readable]]
        new = place == _UNKNOWN
        if new.any():
            fresh = self._reader(tiles[new], of=len(tiles))
            pixels[new], readable[new] = fresh.pixels, fresh.readable
            self._keep(fresh)
        return HeldTiles(tiles, pixels, readable)

    def _keep(self, fresh: HeldTiles) -> None:
        self._place[fresh.tiles[~fresh.readable]] = _UNREADABLE
        room = len(self._pixels) - self._used
        kept = np.flatnonzero(fresh.readable)[:room]
        stop = self._used + len(kept)
        self._pixels[self._used : stop] = fresh.pixels[kept]
        self._place[fresh.tiles[kept]] = np.arange(self._used, stop)
        self._used = stop


Reader = Callable[[np.ndarray], HeldTiles]


def cached(
    reader: IndexedTileReader, num_tiles: int, tile_px: int, config: PixelCacheConfig
) -> Reader:
    """The reader with a cache, or the reader itself if ``max_gib`` is 0."""
    if not config.max_gib:
        return reader
    return CachedReader(reader, num_tiles, tile_px, config)
