"""Choice of a slide's reader: the fastest that gives OpenSlide's pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mshisto_ray import components
from mshisto_ray.slides import (
    AUTO,
    FAMILY,
    REFERENCE,
    Slide,
    SlideError,
    other_reader,
    stand_ins,
)

# Opens a slide with the reader of that name.
OpenSlide = Callable[[Path, str], Slide]
Pixels = Literal["native", "finest", "scaled"]

_SIDE_PX = 256


@dataclass(frozen=True)
class Opened:
    """An open slide, its reader, and the reason for that reader.

    ``stands_in``: for the reference, whose pixels it has to give.
    """

    slide: Slide
    reader: str
    reason: str
    stands_in: bool = False


def open_fastest(
    path: Path, pixels: Pixels, open_slide: OpenSlide, reader: str = AUTO
) -> Opened:
    """Open a slide with the named reader, or the fastest that supports it.

    Raises:
        SlideError: no reader, or not the named one, can open it.
    """
    if reader != AUTO:
        return Opened(open_slide(path, reader), reader, "named in the config")
    refusal = ""
    for name in stand_ins(pixels):
        try:
            # Without a look at the format before: this call is watched for hanging.
            slide = open_slide(path, name)
        except SlideError as error:
            refusal = str(error)
            continue
        about = components.declaration(FAMILY, name, "ABOUT", "fast")
        if not _opens(REFERENCE, path):  # nothing to compare it with
            return Opened(slide, name, about)
        reason = f"{about}; equal to OpenSlide on random tissue"
        return Opened(slide, name, reason, stands_in=True)
    try:
        return open_reference(path, refusal, open_slide)
    except SlideError:
        other = other_reader(path)
        if other is None:
            raise
    reason = "declares the file, which OpenSlide does not open"
    return Opened(open_slide(path, other), other, reason)


def open_reference(path: Path, reason: str, open_slide: OpenSlide) -> Opened:
    """Open a slide with OpenSlide."""
    return Opened(open_slide(path, REFERENCE), REFERENCE, reason)


def _opens(reader: str, path: Path) -> bool:
    return components.declaration(FAMILY, reader, "opens", None)(path)


def difference(
    path: Path, reader: str, places: Sequence[tuple[int, int]], open_slide: OpenSlide
) -> str | None:
    """The first place where a reader's pixels differ from OpenSlide's.

    Args:
        path: slide file.
        reader: the reader to check.
        places: x, y in level-0 pixels, compared at every native level.
        open_slide: opens the slide, once with each reader.

    Returns:
        A sentence with reader, level and place, or None if all pixels are equal.
    """
    if reader == REFERENCE:
        return None
    slide, reference = open_slide(path, reader), open_slide(path, REFERENCE)
    try:
        whole = reference.levels[0]
        for index, level in enumerate(reference.levels):
            own = slide.levels.index(level)
            step = (whole.width / level.width + whole.height / level.height) / 2
            for x, y in places:
                place = [_on_pixels(v, step) for v in (x, y)]
                found = _region(slide, own, *place)
                expected = _region(reference, index, *place)
                if not np.array_equal(found, expected):
                    where = f"level {index}, x {place[0]}, y {place[1]}"
                    return f"{reader} differs from OpenSlide at {where}"
    finally:
        slide.close()
        reference.close()
    return None


def _on_pixels(position: int, step: float) -> int:
    """The largest level-0 position up to this one that falls on a pixel of a level.

    Between pixels a fast reader passes the read to OpenSlide, which interpolates:
    there would be nothing to compare.

    Args:
        position: in level-0 pixels.
        step: the level's downsample as OpenSlide calculates it, rarely whole.
    """
    pixels = range(int(position / step), 0, -1)
    found = (round(p * step) for p in pixels if round(p * step) / step == p)
    return next(found, 0)


def _region(slide: Slide, level: int, x: int, y: int) -> np.ndarray:
    """Pixels of a region, an empty array where the slide is damaged."""
    try:
        return slide.read(level, x, y, _SIDE_PX, _SIDE_PX)
    except SlideError:
        return np.empty(0, np.uint8)
