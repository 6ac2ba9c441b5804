"""Tiles read by hand: level 0 of a TIFF of JPEG, decoded by libjpeg-turbo."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import tifffile

# Tells the decoder that components are RGB (0) or YCbCr (1).
_MARKER = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_KEPT = 64
_START, _JFIF = b"\xff\xd8", b"\xff\xe0"


class ByHand:
    """Level 0 of a slide. ``is_jpeg``: whether it can be read in this way."""

    def __init__(self, path: Path):
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            self.is_jpeg = page.is_tiled and page.compression == 7
            if not self.is_jpeg:
                return
            self._places = list(zip(page.databytecounts, page.dataoffsets, strict=True))
            self._tile = (page.tilewidth, page.tilelength)
            self._columns = -(-page.imagewidth // page.tilewidth)
            self._rows = -(-page.imagelength // page.tilelength)
            colour = b"\x00" if page.photometric == 2 else b"\x01"
            self._head = (page.jpegtables or b"")[:-2] or _START
            self._head += _MARKER + colour
        self._file = os.open(path, os.O_RDONLY)
        self._kept: dict[int, np.ndarray] = {}

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

    def decode_all(self, places: Iterable[tuple[int, int]], side: int) -> None:
        """Decode every native tile under the places once: the least that is needed."""
        wanted = {number for x, y in places for number in self._under(x, y, side)}
        out = np.empty((self._tile[1], self._tile[0], 3), np.uint8)
        for number in sorted(wanted):
            self._decode(number, out)

    def read(self, x: int, y: int, side: int, tile_px: int) -> np.ndarray:
        """A tile from its native tiles, by OpenCV's area average where resampled."""
        wide, high = self._tile
        region = np.full((side, side, 3), 255, np.uint8)
        for number in self._under(x, y, side):
            row, col = divmod(number, self._columns)
            tile = self._kept.get(number)
            if tile is None:
                if len(self._kept) >= _KEPT:
                    self._kept.pop(next(iter(self._kept)))
                tile = np.empty((high, wide, 3), np.uint8)
                self._kept[number] = self._decode(number, tile)
            left, top = col * wide - x, row * high - y
            a, b, c, d = max(left, 0), max(top, 0), max(-left, 0), max(-top, 0)
            part = tile[d : d + side - b, c : c + side - a]
            region[b : b + part.shape[0], a : a + part.shape[1]] = part
        if side == tile_px:
            return region
        size = (tile_px, tile_px)
        return cv2.resize(region, size, interpolation=cv2.INTER_AREA)

    def _under(self, x: int, y: int, side: int) -> list[int]:
        wide, high = self._tile
        rows = range(y // high, min(-(-(y + side) // high), self._rows))
        cols = range(x // wide, min(-(-(x + side) // wide), self._columns))
        return [row * self._columns + col for row in rows for col in cols]

    def _decode(self, number: int, out: np.ndarray) -> np.ndarray:
        size, offset = self._places[number]
        data = os.pread(self._file, size, offset)
        start = 2
        if data[2:4] == _JFIF:
            start = 4 + int.from_bytes(data[4:6], "big")
        stream = self._head + data[start:]
        return simplejpeg.decode_jpeg(stream, "RGB", False, False, buffer=out)
