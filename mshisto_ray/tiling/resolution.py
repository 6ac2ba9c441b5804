"""Choice of the native level from which each scale is read, made once per slide.

mpp (micrometres per pixel) is the only resolution in arithmetic. Real slides are
rarely nominal (0.263, 0.499, 0.526 um/px), so an integer factor within tolerance is
used as it is and the resulting mpp recorded; anything else is resampled by area.
A level between whose pixels OpenSlide would interpolate (real pyramids are rarely 2, 4,
8 times smaller to the pixel) is left for a finer one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mshisto_ray.config import InputError
from mshisto_ray.slides import (
    Level,
)

# An interpolated pixel takes as long as decoding and averaging some sixteen others.
_CHEAPER = 4


@dataclass(frozen=True)
class ScaleReading:
    """How the tiles of one scale are read from one slide.

    Attributes:
        mpp: the scale as configured.
        true_mpp: actual micrometres per tile pixel.
        extent: side of a tile in level-0 pixels; an exact multiple of the finer
            scale's, so that children partition their parent.
        level: native level that is read.
        factor: level pixels per tile pixel if that is a whole number (1: native
            pixels, 2: plain 2 x 2 averages...), else None: resampled by area.
    """

    mpp: float
    true_mpp: float
    extent: float
    level: int
    factor: int | None


def check_chain(scales: Sequence[float]) -> tuple[float, ...]:
    """Scales sorted finest first; each an integer multiple of the next finer one.

    Raises:
        InputError: they do not form such a chain.
    """
    if not scales:
        raise InputError("scales: give at least one, in micrometres per pixel")
    ordered = tuple(sorted(float(s) for s in scales))
    if ordered[0] <= 0:
        raise InputError(
            f"scales: {ordered[0]:g} is not a resolution (must be above 0)"
        )
    for fine, coarse in itertools.pairwise(ordered):
        ratio = coarse / fine
        if round(ratio) < 2 or abs(ratio - round(ratio)) > 1e-9 * ratio:
            raise InputError(
                f"scales: {coarse:g} is not an integer multiple (2, 3, 4...) of the "
                f"next finer {fine:g}; a chain such as 0.5, 1.0, 2.0 links each tile "
                "to its parent"
            )
    return ordered


def served_scales(
    mpp: float, scales: Sequence[float], max_upsample: float
) -> tuple[list[float], list[float]]:
    """Scales that a slide of this level-0 mpp can serve, and those it cannot."""
    served = [s for s in scales if mpp / s <= max_upsample]
    return served, [s for s in scales if s not in served]


def resolve(
    mpp: float,
    levels: Sequence[Level],
    scales: Sequence[float],
    tile_px: int,
    tolerance: float,
    from_finest: bool = False,
    max_upsample: float = 1.1,
) -> list[ScaleReading]:
    """How each served scale is read, finest first.

    Args:
        mpp: level-0 micrometres per pixel.
        levels: native levels.
        scales: served scales, finest first, a chain.
        tile_px: side of a tile in pixels.
        tolerance: relative difference within which an integer factor is used.
        from_finest: every scale from the level that serves the finest.
        max_upsample: of a level decoded at 1/2 or 1/4, which is preferred then.
    """
    finest = scales[0]
    per_pixel = _exact_span(mpp, levels, finest, tolerance) or finest / mpp
    first_level, first_factor = _choose_level(levels, per_pixel, max_upsample)
    readings = []
    for scale in scales:
        # Level-0 pixels per tile pixel; whole multiples keep the grids nested.
        ratio = round(scale / finest)
        span = per_pixel * ratio
        if from_finest:
            level, factor = first_level, first_factor and first_factor * ratio
        else:
            level, factor = _choose_level(levels, span, max_upsample)
        readings.append(ScaleReading(scale, mpp * span, tile_px * span, level, factor))
    return readings


def _exact_span(
    mpp: float, levels: Sequence[Level], scale: float, tolerance: float
) -> float | None:
    """Level-0 pixels per tile pixel from an integer factor, coarsest level first."""
    for level in reversed(levels):
        factor = round(scale / (mpp * level.downsample))
        if factor < 1:
            continue
        span = level.downsample * factor
        if abs(mpp * span / scale - 1) <= tolerance:
            return span
    return None


def _choose_level(
    levels: Sequence[Level], span: float, most: float
) -> tuple[int, int | None]:
    """The level to read, and its pixels per tile pixel if that is a whole number."""
    indices = range(len(levels) - 1, -1, -1)
    for index in indices:
        if _whole(span / levels[index].downsample):
            index = _without_interpolation(levels, index)
            return index, _whole(span / levels[index].downsample)
    for index in indices:
        level = levels[index]
        if level.downsample <= span * (most if level.is_reduced else 1):
            index = _without_interpolation(levels, index)
            return index, _whole(span / levels[index].downsample)
    return 0, None


def _whole(ratio: float) -> int | None:
    """A ratio of at least 1 as a whole number, None if it is none."""
    near = round(ratio)
    return near if near >= 1 and abs(ratio - near) < 1e-9 * ratio else None


def _without_interpolation(levels: Sequence[Level], index: int) -> int:
    """A finer level in place of one that is interpolated, where that is cheaper."""
    chosen = levels[index]
    if not chosen.is_between:
        return index
    for finer in range(index - 1, -1, -1):
        level = levels[finer]
        if chosen.downsample > _CHEAPER * level.downsample:
            break
        if not level.is_between:
            return finer
    return index
