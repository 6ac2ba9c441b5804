"""Tiled JPEG levels of a TIFF: the place and the decoding of each native tile."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile

from mshisto_ray.slides._slide import SlideError

_START, _JFIF = b"\xff\xd8", b"\xff\xe0"
# Adobe's APP14 marker; after it one byte, 0: components are RGB, 1: YCbCr, as in the
# TIFF's tags. Aperio writes RGB tiles without it, and a decoder then assumes YCbCr.
_COLOUR_MARKER = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_PHOTOMETRIC = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)


class UndecodableError(Exception):
    """A native tile is missing or damaged."""


@dataclass(frozen=True)
class JpegLevel:
    """One pyramid level made of JPEG tiles.

    Attributes:
        width: pixels of the level.
        height: pixels of the level.
        tile: width and height of a native tile.
        offsets: [N] byte offset of each tile in the file, row by row.
        sizes: [N] bytes of each tile, 0 if it is missing.
        tables: start of the JPEG stream shared by all tiles, empty if each has its own.
        is_rgb: components are RGB, not YCbCr.
        reduce: decoded at 1, 1/2 or 1/4 of its size, from the DCT's low frequencies.
    """

    width: int
    height: int
    tile: tuple[int, int]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    tables: bytes
    is_rgb: bool
    reduce: int = 1

    @property
    def columns(self) -> int:
        """Number of native tiles per row."""
        return -(-self.width // self.tile[0])

    @functools.cached_property
    def is_whole(self) -> bool:
        """Whether no native tile is missing."""
        return all(self.sizes)

    def reduced(self, reduce: int) -> JpegLevel:
        """This level decoded at 1/``reduce`` of its size."""
        width, height = self.tile
        return replace(
            self,
            width=self.width // reduce,
            height=self.height // reduce,
            tile=(width // reduce, height // reduce),
            reduce=reduce,
        )

    def decode(self, data: bytes, out: np.ndarray) -> None:
        """Decode a tile's bytes into uint8 [h, w, 3].

        Raises:
            UndecodableError: the stream is damaged (damage is never concealed).
        """
        width, height = self.tile
        stream = self._complete_stream(data)
        try:
            # The reduction to 1/2 or 1/4 follows from the size requested in pixels.
            pixels = simplejpeg.decode_jpeg(
                stream, "RGB", False, False, height, width, self.reduce, out
            )
        except ValueError as error:
            raise UndecodableError(str(error)) from None
        if pixels.shape != out.shape:
            raise UndecodableError(f"{pixels.shape[:2]} px in place of {self.tile}")

    def _complete_stream(self, data: bytes) -> bytes:
        start = 2
        if self.is_rgb and data[2:4] == _JFIF:  # implies YCbCr, with precedence
            start = 4 + int.from_bytes(data[4:6], "big")
        colour = _COLOUR_MARKER + (b"\x00" if self.is_rgb else b"\x01")
        return (self.tables or _START) + colour + data[start:]


def read_levels(path: Path, sizes: Iterable[tuple[int, int]]) -> list[JpegLevel]:
    """The levels of these sizes (width, height) as JPEG tiles.

    Raises:
        SlideError: ``NotJpegTiles``, with the reason, where one of them is not.
    """
    try:
        with tifffile.TiffFile(path) as file:
            pages = [p for p in file.pages if isinstance(p, tifffile.TiffPage)]
            return [_level(pages, size) for size in sizes]
    except SlideError:
        raise
    except Exception as error:  # a damaged header raises anything; OpenSlide decides
        raise _refused(f"not read as a TIFF: {error}") from None


def gaps(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Native tiles without any bytes, of the page of this size (width, height).

    The page may be larger by the rest of a native tile, as Philips pads its pages.

    Returns:
        float [N, 4]: left, top, right and bottom in pixels of the page; none for what
        is not one page of a TIFF.
    """
    try:
        with tifffile.TiffFile(path) as file:
            pages = [p for p in file.pages if isinstance(p, tifffile.TiffPage)]
            found = _tiled(pages, size) or [p for p in pages if _is_padded(p, size)]
            return _missing(found[0]) if len(found) == 1 else np.zeros((0, 4))
    except Exception:  # a damaged or foreign header; reads show what is missing
        return np.zeros((0, 4))


def _missing(page: tifffile.TiffPage) -> np.ndarray:
    """Boxes of a page's native tiles without bytes, float [N, 4]."""
    tile = np.array([page.tilewidth, page.tilelength])
    columns = -(-page.imagewidth // page.tilewidth)
    num = columns * -(-page.imagelength // page.tilelength)
    sizes = np.zeros(num)  # those without an entry are missing too
    listed = np.array(page.databytecounts, float)[:num]
    sizes[: len(listed)] = listed
    row, col = np.divmod(np.flatnonzero(sizes == 0), columns)
    start = np.stack([col, row], 1) * tile
    stop = np.minimum(start + tile, (page.imagewidth, page.imagelength))
    return np.concatenate([start, stop], 1).astype(float)


def _tiled(
    pages: Iterable[tifffile.TiffPage], size: tuple[int, int]
) -> list[tifffile.TiffPage]:
    return [p for p in pages if p.is_tiled and (p.imagewidth, p.imagelength) == size]


def _is_padded(page: tifffile.TiffPage, size: tuple[int, int]) -> bool:
    return (
        page.is_tiled
        and 0 <= page.imagewidth - size[0] < page.tilewidth
        and 0 <= page.imagelength - size[1] < page.tilelength
    )


def _level(pages: Iterable[tifffile.TiffPage], size: tuple[int, int]) -> JpegLevel:
    found = _tiled(pages, size)
    if len(found) != 1:
        raise _refused(f"{len(found)} tiled pages of {size[0]} x {size[1]} px")
    (page,) = found
    if page.compression != tifffile.COMPRESSION.JPEG:
        kind = getattr(page.compression, "name", page.compression)
        raise _refused(f"compression {kind}, not JPEG")
    is_plain = (
        (page.samplesperpixel, page.bitspersample) == (3, 8)
        and page.photometric in _PHOTOMETRIC
        and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
    )
    if not is_plain:
        raise _refused("not three interleaved channels of 8 bits")
    tiles = -(-size[0] // page.tilewidth) * -(-size[1] // page.tilelength)
    listed = min(len(page.dataoffsets), len(page.databytecounts))
    if listed < tiles:
        raise _refused(f"{tiles} native tiles claimed, {listed} listed")
    tables = page.jpegtables or b""
    return JpegLevel(
        page.imagewidth,
        page.imagelength,
        (page.tilewidth, page.tilelength),
        tuple(page.dataoffsets),
        tuple(page.databytecounts),
        tables[:-2],  # without the end-of-image marker
        page.photometric == tifffile.PHOTOMETRIC.RGB,
    )


def _refused(reason: str) -> SlideError:
    return SlideError("NotJpegTiles", reason)
