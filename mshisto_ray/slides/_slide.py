"""The interface of slide readers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mshisto_ray.store.errors import UnitError

# Outside these bounds an mpp is a mistake. No scanner goes below 0.08 um/px (a 100x
# objective gives 0.1); 50 um/px is coarser than the overview that some files are.
MIN_MPP, MAX_MPP = 0.08, 50.0
# Typed into a table, 10, 20 and 40 are the powers of objectives: a scan of the weakest
# (1.25x) has 8 um/px.
_MAX_TYPED_MPP = 9.0


class SlideError(UnitError):
    """A slide, or a region of it, cannot be read; ``name`` identifies the cause."""


@dataclass(frozen=True)
class Level:
    """A native level: its size in pixels and its downsample against level 0.

    ``downsample`` is infinite for a level that is not to be read: its two sides are
    downsampled by different factors (it was padded or cropped to whole native tiles),
    so that a position in it is not known. It keeps its place in ``levels``.

    ``is_between``: its pixels lie between those of level 0, so that a read is
    interpolated, at many times the price of decoding a finer level.
    ``is_reduced``: no level of the file, but decoded from JPEG at 1/2 or 1/4.
    """

    width: int
    height: int
    downsample: float
    is_between: bool = field(default=False, compare=False)
    is_reduced: bool = field(default=False, compare=False)

    @property
    def is_sound(self) -> bool:
        """Whether the level may be read."""
        return math.isfinite(self.downsample)


@dataclass(frozen=True)
class Frame:
    """Where the coordinates of other software start on a slide.

    Attributes:
        size: width and height of the plane in level-0 pixels.
        origin: x, y of the scanned area's corner in level-0 pixels. QuPath shows this
            area alone (``openslide.bounds-*``) and counts from its corner.
        shown: width and height of the scanned area in level-0 pixels.
        centre: x, y of the glass slide's centre in level-0 pixels, from which
            Hamamatsu's NDPA files count; None where the file does not record it.
        pixel_nm: width and height of a level-0 pixel in nanometres, as the file says;
            None where it says nothing.
    """

    size: tuple[int, int]
    origin: tuple[int, int]
    shown: tuple[int, int]
    centre: tuple[float, float] | None = None
    pixel_nm: tuple[float, float] | None = None


class Slide(Protocol):
    """An open slide.

    ``levels[0]`` is the finest. ``mpp`` is that of level 0 in micrometres per pixel,
    None if the file does not record it. The slide stays usable after a failed ``read``.

    A slide of which the file does not hold every pixel also has

    - ``read_held(level, x, y, width, height)``, as ``read``, that also returns bool
      [height, width], True where the file holds the pixel (and outside the slide);
      ``read`` gives white there;
    - ``gaps(level) -> float [N, 4]``: left, top, right and bottom, in level-0 pixels,
      of areas of a level that may be missing, beside those that ``read_held`` shows at
      every level;

    one that interpolates between the pixels of a level also has

    - ``read_nearest(level, x, y, width, height)``, as ``read``, moved to whole pixels;

    and one whose coordinates other software counts from elsewhere than the corner of
    the plane has ``frame: Frame``.
    """

    levels: tuple[Level, ...]
    mpp: float | None
    vendor: str
    objective: float | None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """RGB pixels of a region.

        Args:
            level: native level.
            x: left edge in level-0 pixels.
            y: top edge in level-0 pixels.
            width: pixels of that level.
            height: pixels of that level.

        Returns:
            uint8 [height, width, 3]; white outside the slide.

        Raises:
            SlideError: the region cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def read_held(
    slide: Slide, level: int, x: int, y: int, width: int, height: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """As ``Slide.read``, and which pixels the file holds.

    Returns:
        uint8 [height, width, 3] over white, and bool [height, width] or, where the
        file holds all of them, None.

    Raises:
        SlideError: the region cannot be decoded.
    """
    read = getattr(slide, "read_held", None)
    if read is None:
        return slide.read(level, x, y, width, height), None
    pixels, held = read(level, x, y, width, height)
    return pixels, None if held is None or held.all() else held


def read_nearest(
    slide: Slide, level: int, x: int, y: int, width: int, height: int
) -> np.ndarray:
    """As ``Slide.read``, moved by up to half a pixel of the level where that is faster.

    For measures of texture: interpolation blurs, and a reader of native tiles has to
    leave it to OpenSlide.

    Raises:
        SlideError: the region cannot be decoded.
    """
    read = getattr(slide, "read_nearest", slide.read)
    return read(level, x, y, width, height)


def gaps_of(slide: Slide, level: int) -> np.ndarray:
    """Areas of a level that may be missing; see ``Slide``. float [N, 4]."""
    gaps = getattr(slide, "gaps", None)
    return np.zeros((0, 4)) if gaps is None else gaps(level)


def frame_of(slide: Slide) -> Frame:
    """Where the coordinates of other software start on a slide."""
    frame = getattr(slide, "frame", None)
    size = (slide.levels[0].width, slide.levels[0].height)
    return frame or Frame(size, (0, 0), size)


def unsound_levels(slide: Slide) -> str:
    """A phrase on the levels that are not read, empty if there are none."""
    sizes = [f"{v.width} x {v.height}" for v in slide.levels if not v.is_sound]
    whole = slide.levels[0]
    if not sizes:
        return ""
    return (
        f"levels not read: {', '.join(sizes)} px, which is no downsample of "
        f"{whole.width} x {whole.height} px"
    )


def checked_mpp(from_file: float | None, from_cohort: float | None) -> float:
    """The level-0 mpp to use: the cohort's if given, else the file's.

    Raises:
        SlideError: neither gives it, or it is out of bounds.
    """
    mpp = from_cohort if from_cohort is not None else from_file
    if mpp is None:
        raise SlideError(
            "NoMpp",
            "the file records no resolution, or different ones in x and y: put its "
            "micrometres per pixel into the cohort's mpp column (20x is about 0.5, 40x "
            "about 0.25)",
        )
    is_typed = from_cohort is not None
    most = _MAX_TYPED_MPP if is_typed else MAX_MPP
    if not MIN_MPP <= mpp <= most:
        source = "the cohort" if is_typed else "the file"
        guess = f" ({mpp:g}x is about {10 / mpp:g})" if is_typed and mpp > most else ""
        raise SlideError(
            "AbsurdMpp",
            f"{source} gives {mpp:g} micrometres per pixel, which no scanner produces "
            f"(plausible: {MIN_MPP:g} to {most:g}): put micrometres per pixel, not the "
            f"magnification{guess}, into the cohort's mpp column",
        )
    return mpp
