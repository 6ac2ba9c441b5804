"""Reading of many tiles of many slides, in the order of their positions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.slides import (
    SlideError,
    open_slide,
)
from mshisto_ray.store.fingerprint import slide_fingerprint
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.record import readings_of
from mshisto_ray.training.tile_index import TileIndex

# Share of the requested tiles; above it the slides, not single tiles, are at fault.
_MOST_UNREADABLE = 0.5
_LOOKING = 16


@dataclass(frozen=True)
class HeldTiles:
    """Tiles in memory.

    ``tiles``: sorted numbers in the cohort's index, [N]; ``pixels``: uint8
    [N, H, W, 3]; ``readable``: bool [N], False where the pixels are missing.
    """

    tiles: np.ndarray
    pixels: np.ndarray
    readable: np.ndarray

    def places(self, tiles: np.ndarray) -> np.ndarray:
        """The rows of tiles [M], all held, in ``pixels``."""
        return np.searchsorted(self.tiles, tiles)


def check_slides(tiles: TileDirectory) -> None:
    """Refuse tiles whose slides have moved, before a worker starts.

    Raises:
        InputError: a slide's file is not where it was tiled.
    """
    paths = [Path(record["path"]) for record in tiles.slides.values()]
    # Thousands of look-ups, each of which waits for the storage.
    with ThreadPoolExecutor(_LOOKING) as pool:
        there = list(pool.map(Path.exists, paths))
    gone = [path for path, found in zip(paths, there, strict=True) if not found]
    if gone:
        raise InputError(
            f"tiles: {len(gone)} of {len(paths)} slides are not where they were tiled, "
            f"such as {gone[0]}: put them back, or give mshisto tile a cohort of their "
            f"new paths with out={tiles.path}; tiles are not planned again"
        )


class IndexedTileReader:
    """Reads tiles of an index from their slides; no handle is shared by threads."""

    def __init__(self, tiles: TileDirectory, index: TileIndex, threads: int):
        self._tiles, self._index = tiles, index
        self._tile_px = int(tiles.manifest.recipe["tile_px"])
        self._threads = threads

    def __call__(self, tiles: np.ndarray, of: int | None = None) -> HeldTiles:
        """Read tiles (sorted, unique).

        Args:
            tiles: numbers in the index.
            of: number of tiles requested, if some of them came from a cache.

        Raises:
            InputError: a slide is not the file that was tiled, or most tiles cannot
                be read.
        """
        side = self._tile_px
        pixels = np.full((len(tiles), side, side, 3), 255, np.uint8)
        readable = np.zeros(len(tiles), bool)
        slides, starts = np.unique(self._index.slide(tiles), return_index=True)
        runs = np.split(np.arange(len(tiles)), starts[1:])
        with ThreadPoolExecutor(self._threads) as pool:
            tasks = [
                pool.submit(self._read_slide, slide, tiles, run, pixels, readable)
                for slide, run in zip(slides, runs, strict=True)
            ]
            errors = [task.result() for task in tasks]
        if (~readable).sum() > _MOST_UNREADABLE * (of or len(tiles)):
            reason = next(message for message in errors if message)
            raise InputError(
                f"{(~readable).sum()} of {len(tiles)} tiles cannot be read, such as: "
                f"{reason}"
            )
        return HeldTiles(tiles, pixels, readable)

    def _read_slide(
        self,
        slide: int,
        tiles: np.ndarray,
        run: np.ndarray,
        pixels: np.ndarray,
        readable: np.ndarray,
    ) -> str:
        """Fill in the tiles of one slide; returns its last error message, if any."""
        index, record = self._index, self._tiles.slides[self._index.slide_ids[slide]]
        path, last_error = Path(record["path"]), ""
        try:
            if slide_fingerprint(path) != record["fingerprint"]:
                raise InputError(
                    f"{path} is not the file that was tiled: run mshisto tile again"
                )
            opened = open_slide(path, record["reader"])
        except (SlideError, OSError) as error:
            return f"{path}: {error}"
        readings = readings_of(record)
        scales = index.scale(tiles[run])
        rows, cols = index.row(tiles[run]), index.col(tiles[run])
        for place, scale, row, col in zip(run, scales, rows, cols, strict=True):
            reading = readings[index.scales[scale]]
            # Rounded as when the tiles were planned.
            x, y = round(col * reading.extent), round(row * reading.extent)
            try:
                pixels[place] = read_tile(opened, reading, x, y, self._tile_px)
                readable[place] = True
            except SlideError as error:
                last_error = f"{path}: {error}"
        opened.close()
        return last_error
