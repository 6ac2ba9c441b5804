"""Slides read by OpenSlide, in every format that it supports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
from openslide.lowlevel import OpenSlideError, OpenSlideUnsupportedFormatError

from mshisto_ray.slides._header import (
    check_size,
    frame_in,
    levels_of,
    mpp_of,
    number,
)
from mshisto_ray.slides._slide import Slide, SlideError


def opens(path: Path) -> bool:
    """Whether it is of a format that OpenSlide knows."""
    return openslide.OpenSlide.detect_format(path) is not None


def build(path: Path) -> Slide:
    """Open a slide with OpenSlide.

    Raises:
        SlideError: not in a format that OpenSlide supports, damaged, or unreadable.
    """
    return OpenSlideSlide(path)


class OpenSlideSlide:
    """A slide read by OpenSlide; ``downsamples`` are those it calculates with."""

    def __init__(self, path: Path):
        self._path = path
        self._handle = _open(path)
        try:
            check_size(path, self._handle)
        except SlideError:
            self._handle.close()
            raise
        properties = self._handle.properties
        self.vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self.objective = number(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))
        self.mpp = mpp_of(self._handle)
        self.frame = frame_in(self._handle)
        self.levels = levels_of(self._handle)
        self.downsamples = tuple(map(float, self._handle.level_downsamples))

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """RGB pixels of a region, over white; interpolated between pixels."""
        return on_white(self._read(level, x, y, width, height))

    def read_held(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """As ``read``, and which pixels the file holds; True outside the slide."""
        rgba = self._read(level, x, y, width, height)
        held = rgba[..., 3] >= 128
        if not held.all():
            size, down = self.levels[level], self.downsamples[level]
            col, row = np.arange(width) + x / down, np.arange(height) + y / down
            held |= ((col < 0) | (col > size.width - 1))[None]
            held |= ((row < 0) | (row > size.height - 1))[:, None]
        return on_white(rgba), held

    def gaps(self, level: int) -> np.ndarray:
        """Native tiles that a TIFF lacks at a level, in level-0 pixels, [N, 4]."""
        # Imported here: it takes half a second, of which a watched opening has few.
        from mshisto_ray.slides._tiff import gaps

        size = self.levels[level]
        boxes = gaps(self._path, (size.width, size.height))
        return boxes * self.downsamples[level]

    def close(self) -> None:
        """Release the file."""
        self._handle.close()

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Pixels of a region, uint8 [height, width, 4] with straight alpha."""
        try:
            image = self._handle.read_region((x, y), level, (width, height))
        except OpenSlideError as error:
            # OpenSlide latches errors: this handle would fail at every later read.
            fresh = _open(self._path)
            self._handle.close()
            self._handle = fresh
            raise SlideError(
                "UnreadableRegion",
                f"the file is damaged here ({error}): copy it again from the "
                "scanner and run with runtime.retry_failures=true",
            ) from None
        return np.asarray(image)


def on_white(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] with straight alpha to uint8 [H, W, 3] over white."""
    rgb, alpha = rgba[..., :3], rgba[..., 3]
    if not alpha.any():  # most of a plane of which parts were scanned
        return np.full(rgb.shape, 255, np.uint8)
    result = rgb.copy()
    if alpha.min() == 255:
        return result
    result[alpha == 0] = 255
    mixed = (alpha > 0) & (alpha < 255)
    weight = alpha[mixed, None].astype(np.float32) / 255
    result[mixed] = np.rint(rgb[mixed] * weight + 255 * (1 - weight))
    return result


def _open(path: Path) -> openslide.OpenSlide:
    if not path.exists():
        raise SlideError("MissingFile", f"no such file: {path}")
    try:
        return openslide.OpenSlide(path)
    except OpenSlideUnsupportedFormatError:
        raise SlideError(
            "NotASlide",
            "no slide format that OpenSlide reads (damaged, cut short, or an image "
            "without tiles or pyramid): copy it again from the scanner, or convert it "
            "to a tiled pyramidal TIFF",
        ) from None
    except OpenSlideError as error:
        raise SlideError(
            "UnreadableSlide", f"OpenSlide cannot open it: {error}"
        ) from None
