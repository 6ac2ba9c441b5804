"""Slides read by OpenSlide, in every format that it supports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from openslide.lowlevel import OpenSlideError, OpenSlideUnsupportedFormatError

from mshisto_ray.slides._slide import Level, Slide, SlideError

# Square pixels: scanners differ by a few thousandths between x and y.
_MAX_ANISOTROPY = 0.02


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
        properties = self._handle.properties
        self.vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self.objective = _number(
            properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
        )
        self.mpp = _mpp(properties)
        self.levels = _levels(self._handle)
        self.downsamples = tuple(map(float, self._handle.level_downsamples))

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """RGB pixels of a region, over white; interpolated between pixels."""
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
        return on_white(np.asarray(image))

    def close(self) -> None:
        """Release the file."""
        self._handle.close()


def on_white(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] with straight alpha to uint8 [H, W, 3] over white."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgb)
    weight = alpha.astype(np.float32) / 255
    return np.rint(rgb * weight + 255 * (1 - weight)).astype(np.uint8)


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


def _levels(handle: openslide.OpenSlide) -> tuple[Level, ...]:
    width, height = handle.dimensions
    levels = []
    for (w, h), raw in zip(
        handle.level_dimensions, handle.level_downsamples, strict=True
    ):
        # OpenSlide derives a downsample from rounded sizes (2.0005 for 2): a level
        # whose size is that of an integer downsample within a pixel has that one.
        whole = round(raw)
        exact = abs(width / whole - w) <= 1 and abs(height / whole - h) <= 1
        levels.append(Level(w, h, float(whole) if exact else raw))
    return tuple(levels)


def _mpp(properties: Mapping[str, str]) -> float | None:
    mpp_x = _number(properties.get(openslide.PROPERTY_NAME_MPP_X))
    mpp_y = _number(properties.get(openslide.PROPERTY_NAME_MPP_Y))
    if mpp_x is None or mpp_y is None:
        return mpp_x if mpp_y is None else mpp_y
    if abs(mpp_x - mpp_y) > _MAX_ANISOTROPY * max(mpp_x, mpp_y):
        return None  # a wrong header: the cohort has to give it
    return (mpp_x + mpp_y) / 2


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
