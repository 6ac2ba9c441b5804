"""Slides decoded by native tiles, with a cache of those decoded last."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mshisto_ray.slides._slide import Level, SlideError
from mshisto_ray.slides._tiff import JpegLevel, UndecodableError, read_levels
from mshisto_ray.slides.openslide import OpenSlideSlide

# Formats whose native tiles abut: Ventana's and Trestle's overlap, others are no TIFF.
_VENDORS = ("aperio", "generic-tiff")
# Of decoded native tiles: enough for a cell of 2048 px and its neighbour's border.
_CACHE_BYTES = 32 * 1024**2
_REDUCTIONS = (2, 4)
# No reduced level is added within this factor of another level's downsample.
_NEAR = 1.5


@dataclass(frozen=True)
class _Source:
    """A level and where its pixels come from.

    ``native`` is its number in OpenSlide, None for a reduced one; ``downsample`` the
    value from which OpenSlide calculates positions.
    """

    level: Level
    page: JpegLevel
    native: int | None
    downsample: float


class NativeSlide:
    """A tiled-JPEG TIFF decoded by libjpeg-turbo, with OpenSlide as the fallback.

    OpenSlide interpolates where a level-0 position falls between the pixels of a
    level; such reads, and those of a missing or damaged native tile, are done by
    OpenSlide, so that every read of a native level gives OpenSlide's pixels. Not
    thread-safe.
    """

    def __init__(self, path: Path, scaled: bool = False):
        """Open a slide; ``scaled`` adds levels decoded at 1/2 and 1/4.

        Raises:
            SlideError: not a slide, or ``NotJpegTiles`` with the reason.
        """
        self._reference = OpenSlideSlide(path)
        try:
            sources = _sources(path, self._reference, scaled)
        except SlideError:
            self._reference.close()
            raise
        self.vendor = self._reference.vendor
        self.objective = self._reference.objective
        self.mpp = self._reference.mpp
        self.frame = self._reference.frame
        self.levels = tuple(source.level for source in sources)
        self._sources = sources
        self._file = os.open(path, os.O_RDONLY)
        self._file_size = os.fstat(self._file).st_size
        self._decoded: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._decoded_bytes = 0

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        source = self._sources[level]
        left, top = x / source.downsample, y / source.downsample
        if source.native is not None and not (left.is_integer() and top.is_integer()):
            return self._reference.read(source.native, x, y, width, height)
        return self.read_nearest(level, x, y, width, height)

    def read_nearest(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> np.ndarray:
        """As ``read``, moved to the nearest pixels of the level."""
        source = self._sources[level]
        col, row = round(x / source.downsample), round(y / source.downsample)
        try:
            return self._assemble(level, col, row, width, height)
        except UndecodableError as error:
            if source.native is not None:
                return self._reference.read(source.native, x, y, width, height)
            raise SlideError(
                "UnreadableRegion",
                f"the file is damaged here ({error}): copy it again from the "
                "scanner and run with runtime.retry_failures=true",
            ) from None

    def read_held(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As ``read``, and which pixels the file holds; None: all of them."""
        source = self._sources[level]
        if source.native is None or source.page.is_whole:
            return self.read(level, x, y, width, height), None
        return self._reference.read_held(source.native, x, y, width, height)

    def gaps(self, level: int) -> np.ndarray:
        """Native tiles that the file lacks at a level, in level-0 pixels, [N, 4]."""
        native = self._sources[level].native
        return np.zeros((0, 4)) if native is None else self._reference.gaps(native)

    def close(self) -> None:
        self._decoded.clear()
        self._reference.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _assemble(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> np.ndarray:
        """Pixels of a region, given in the level's own pixels."""
        page = self._sources[level].page
        tile_w, tile_h = page.tile
        whole = self._whole_tile(level, left, top, width, height)
        if whole is not None:
            return whole
        right, bottom = min(left + width, page.width), min(top + height, page.height)
        x0, y0 = max(left, 0), max(top, 0)
        if (x0, y0, right, bottom) == (left, top, left + width, top + height):
            out = np.empty((height, width, 3), np.uint8)
        else:
            out = np.full((height, width, 3), 255, np.uint8)
            if right <= x0 or bottom <= y0:
                return out
        for row in range(y0 // tile_h, -(-bottom // tile_h)):
            y = row * tile_h
            first, last = max(y0, y), min(bottom, y + tile_h)
            for col in range(x0 // tile_w, -(-right // tile_w)):
                x = col * tile_w
                start, stop = max(x0, x), min(right, x + tile_w)
                tile = self._tile(level, row * page.columns + col)
                out[first - top : last - top, start - left : stop - left] = tile[
                    first - y : last - y, start - x : stop - x
                ]
        return out

    def _whole_tile(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> np.ndarray | None:
        """Pixels of a region that is exactly one native tile, else None.

        Not cached: tiles on the file's own grid are read once each.
        """
        page = self._sources[level].page
        col, row = left // width, top // height
        is_one = (
            (width, height) == page.tile
            and (col * width, row * height) == (left, top)
            and 0 <= left <= page.width - width
            and 0 <= top <= page.height - height
        )
        if not is_one or (level, row * page.columns + col) in self._decoded:
            return None
        out = np.empty((height, width, 3), np.uint8)
        self._decode(page, row * page.columns + col, out)
        return out

    def _tile(self, level: int, index: int) -> np.ndarray:
        key = (level, index)
        tile = self._decoded.get(key)
        if tile is not None:
            self._decoded.move_to_end(key)
            return tile
        page = self._sources[level].page
        tile = self._empty_tile(page.tile)
        self._decode(page, index, tile)
        self._decoded[key] = tile
        self._decoded_bytes += tile.nbytes
        return tile

    def _empty_tile(self, size: tuple[int, int]) -> np.ndarray:
        """An array for a native tile, reused: new memory costs a third of the time."""
        shape = (size[1], size[0], 3)
        array = None
        while self._decoded and self._decoded_bytes + math.prod(shape) > _CACHE_BYTES:
            array = self._decoded.popitem(last=False)[1]
            self._decoded_bytes -= array.nbytes
        if array is None or array.shape != shape:
            array = np.empty(shape, np.uint8)
        return array

    def _decode(self, page: JpegLevel, index: int, out: np.ndarray) -> None:
        size, offset = page.sizes[index], page.offsets[index]
        if not size:
            raise UndecodableError("native tile missing")
        if offset + size > self._file_size:
            raise UndecodableError("native tile beyond the end of the file")
        page.decode(os.pread(self._file, size, offset), out)


def _sources(path: Path, reference: OpenSlideSlide, scaled: bool) -> list[_Source]:
    """Levels, finest first.

    Raises:
        SlideError: ``NotJpegTiles``, with the reason.
    """
    if reference.vendor not in _VENDORS:
        raise SlideError("NotJpegTiles", f"format {reference.vendor}")
    sizes = [(level.width, level.height) for level in reference.levels]
    pages = read_levels(path, sizes)
    native = [
        _Source(_placed(level, downsample), page, index, downsample)
        for index, (level, page, downsample) in enumerate(
            zip(reference.levels, pages, reference.downsamples, strict=True)
        )
    ]
    if not scaled:
        return native
    if not all(page.is_whole for page in pages):
        raise SlideError("NotJpegTiles", "native tiles are missing")
    return sorted([*native, *_reduced(native)], key=lambda s: s.level.downsample)


def _placed(level: Level, downsample: float) -> Level:
    """A level, with a mark where OpenSlide interpolates between its pixels."""
    return replace(level, is_between=not downsample.is_integer())


def _reduced(native: list[_Source]) -> list[_Source]:
    """Levels that the pyramid lacks, each from the nearest finer native one."""
    known = [source.level.downsample for source in native]
    found = []
    for source in reversed([s for s in native if s.level.is_sound]):
        for reduce in _REDUCTIONS:
            downsample = source.level.downsample * reduce
            if any(max(d, downsample) < _NEAR * min(d, downsample) for d in known):
                continue
            page = source.page.reduced(reduce)
            level = Level(page.width, page.height, downsample, is_reduced=True)
            found.append(_Source(level, page, None, downsample))
            known.append(downsample)
    return found
