"""PNG, JPEG, BMP and untiled TIFF: one image without a pyramid, held in memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from mshisto_ray.slides._slide import Level, Slide, SlideError
from mshisto_ray.slides.openslide import on_white

# An image is decoded whole: this many pixels are 400 MB while it is read.
MAX_PX = 100_000_000
# Files that were never calibrated carry the resolution of a screen or of print, 72 to
# 1,200 dots per inch: nothing coarser than this is a microscope's.
_MAX_MPP = 10.0
_UM_PER_INCH = 25_400
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_TIFF_TILES = 324  # the tag TileOffsets
# Palette and bilevel images hold colours of 8 bits; others (16 bits, CMYK, LAB) need a
# choice of range or profile.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


def opens(path: Path) -> bool:
    """Whether it is such an image, by its first bytes and, for TIFF, its tags."""
    try:
        with path.open("rb") as file:
            if not file.read(8).startswith(_BEGINNINGS):
                return False
        with _opened(path) as image:
            return not _is_tiled(image)
    except (OSError, SlideError):
        return False


def build(path: Path) -> Slide:
    """Open an image; it is decoded at the first read.

    Raises:
        SlideError: no such image, of more than ``MAX_PX`` pixels or several pages, or
            not of 8 bits a channel.
    """
    return FlatImage(path)


class FlatImage:
    """An image with one level; ``mpp`` only where the file records a microscope's."""

    objective: float | None = None

    def __init__(self, path: Path):
        self._path = path
        self._rgba: np.ndarray | None = None
        with _opened(path) as image:
            _check(image)
            self.levels = (Level(*image.size, 1.0),)
            self.mpp: float | None = _mpp(image)
            self.vendor = str(image.format).lower()

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """RGB pixels of a region, over white."""
        return on_white(self._region(x, y, width, height))

    def read_held(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """As ``read``, and where the image is not transparent (or ends)."""
        rgba = self._region(x, y, width, height)
        return on_white(rgba), rgba[..., 3] >= 128

    def close(self) -> None:
        """Release the pixels."""
        self._rgba = None

    def _region(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Uint8 [height, width, 4]; opaque white outside the image."""
        if self._rgba is None:
            self._rgba = _decode(self._path)
        out = np.full((height, width, 4), 255, np.uint8)
        left, top = max(x, 0), max(y, 0)
        found = self._rgba[top : max(y + height, 0), left : max(x + width, 0)]
        rows, cols, _ = found.shape
        if rows and cols:
            out[top - y : top - y + rows, left - x : left - x + cols] = found
        return out


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image; what Pillow raises of a damaged file, also later, as a SlideError."""
    if not path.exists():
        raise SlideError("MissingFile", f"no such file: {path}")
    with warnings.catch_warnings():
        # Of large images, odd tags and files cut short: sizes are checked by _check.
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=_FORMATS) as image:
                yield image
        except (SlideError, FileNotFoundError):
            raise
        except Exception as error:  # its parsers raise anything
            raise SlideError(
                "NotASlide",
                f"no PNG, JPEG, BMP or TIFF image that can be opened: {error}",
            ) from None


def _is_tiled(image: Image.Image) -> bool:
    return image.format == "TIFF" and _TIFF_TILES in getattr(image, "tag_v2", {})


def _check(image: Image.Image) -> None:
    width, height = image.size
    pages = getattr(image, "n_frames", 1)
    if width * height > MAX_PX:
        raise SlideError(
            "TooLarge",
            f"an image of {width:,} x {height:,} px without a pyramid: up to "
            f"{MAX_PX:,} pixels are read; convert it to a tiled pyramidal TIFF",
        )
    if pages > 1:
        raise SlideError(
            "SeveralPages",
            f"an untiled file of {pages} images: save the one that is meant as a file",
        )
    if image.mode not in _MODES or _is_deep(image):
        deep = " of 16 bits" if _is_deep(image) else ""
        raise SlideError(
            "NotEightBit",
            f"pixels of type {image.mode}{deep} (Pillow's name): save the image with 8 "
            "bits a channel, in RGB or grey",
        )


def _is_deep(image: Image.Image) -> bool:
    """Whether channels have 16 bits in the file, of which Pillow would drop eight.

    Of a camera of 12 bits those that are left are four: a nearly black image.
    """
    stored = [tile[3] for tile in getattr(image, "tile", ())]
    modes = (mode if isinstance(mode, str) else mode[0] for mode in stored if mode)
    return any(";16" in str(mode) for mode in modes)


def _mpp(image: Image.Image) -> float | None:
    """Micrometres per pixel; None where the file records none, or one of print."""
    sides = [float(dots) for dots in image.info.get("dpi", ()) if dots]
    if len(sides) != 2 or abs(sides[0] - sides[1]) > 0.02 * max(sides):
        return None
    mpp = _UM_PER_INCH / (sum(sides) / 2)
    return mpp if mpp <= _MAX_MPP else None


def _decode(path: Path) -> np.ndarray:
    try:
        with _opened(path) as image:
            return np.asarray(image.convert("RGBA"))
    except SlideError as error:
        raise SlideError(
            "UnreadableRegion",
            f"the file is damaged ({error}): copy it again and run with "
            "runtime.retry_failures=true",
        ) from None
