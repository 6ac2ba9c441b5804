"""A slide's thumbnail at about a given resolution, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mshisto_ray.slides import (
    Level,
    Slide,
    SlideError,
    frame_of,
    read_held,
)
from mshisto_ray.tiling.pixels import box_average

_BLOCK_PX = 2048
# A scan of 50 x 25 mm at 8 um/px; tissue detection needs some 45 bytes per pixel.
_MAX_PIXELS = 20_000_000
_SMALLEST_BLOCK_PX = 256
# Pixels of finer levels that are read for what the thumbnail's level lacks: seconds.
_MOST_FILLED_PIXELS = 200_000_000


@dataclass(frozen=True)
class Thumbnail:
    """A downsampled image of a whole slide.

    Attributes:
        pixels: uint8 [h, w, 3].
        readable: bool [h, w]; False where the slide could not be decoded.
        missing: bool [h, w]; True where the file holds no pixels, which are white.
        lacking: bool [h, w]; True where the level that was read holds no pixels;
            some of them may come from a finer level.
        span: level-0 pixels per thumbnail pixel.
    """

    pixels: np.ndarray
    readable: np.ndarray
    missing: np.ndarray
    lacking: np.ndarray
    span: float


def read_thumbnail(slide: Slide, mpp: float, target_mpp: float) -> Thumbnail:
    """The slide at about ``target_mpp``: whole box averages of one native level.

    The level is read in blocks, so a slide without a pyramid costs time, not memory;
    where it would have more than 20 million pixels, the thumbnail is coarser.
    Undecodable regions are narrowed down to 256 px and left white. What the level lacks
    and a finer one holds is taken from that one, or tissue there would be lost.

    Args:
        slide: open slide.
        mpp: level-0 micrometres per pixel.
        target_mpp: wanted micrometres per pixel.

    Raises:
        SlideError: nothing at all could be decoded.
    """
    fits = [i for i, v in enumerate(slide.levels) if mpp * v.downsample <= target_mpp]
    index = fits[-1] if fits else 0
    level = slide.levels[index]
    bound = math.ceil(math.sqrt(level.width * level.height / _MAX_PIXELS))
    factor = max(bound, round(target_mpp / (mpp * level.downsample)))
    height, width = -(-level.height // factor), -(-level.width // factor)
    pixels = np.full((height, width, 3), 255, np.uint8)
    readable = np.ones((height, width), bool)
    missing = np.zeros((height, width), bool)
    lacking = np.zeros((height, width), bool)
    image = Thumbnail(pixels, readable, missing, lacking, level.downsample * factor)
    block = max(1, _BLOCK_PX // factor)
    errors: list[SlideError] = []
    for row in range(0, height, block):
        for col in range(0, width, block):
            box = (row, col, min(block, height - row), min(block, width - col))
            _fill(slide, index, level, factor, box, image, errors)
    if errors and not readable.any():
        raise errors[0]
    lacking |= missing
    for finer in reversed(fits[:-1]):
        _fill_missing(slide, finer, image)
    return image


def _fill_missing(slide: Slide, index: int, image: Thumbnail) -> None:
    """Fill the missing pixels of the scanned area that a finer level holds."""
    level, frame = slide.levels[index], frame_of(slide)
    factor = round(image.span / level.downsample)
    left, top = (math.floor(v / image.span) for v in frame.origin)
    right, bottom = (
        math.ceil((v + size) / image.span)
        for v, size in zip(frame.origin, frame.shown, strict=True)
    )
    shown = np.zeros_like(image.missing)
    shown[top:bottom, left:right] = True
    lacking = image.missing & shown
    if not lacking.any() or lacking.sum() * factor**2 > _MOST_FILLED_PIXELS:
        return
    height, width = lacking.shape
    block = max(1, _BLOCK_PX // factor)
    for row in range(0, height, block):
        for col in range(0, width, block):
            where = np.s_[row : row + block, col : col + block]
            if not lacking[where].any():
                continue
            sides = lacking[where].shape
            x, y = round(col * image.span), round(row * image.span)
            size = sides[1] * factor, sides[0] * factor
            try:
                region, held = read_held(slide, index, x, y, *size)
            except SlideError:
                continue
            found = lacking[where].copy()
            if held is not None:
                boxes = held.reshape(sides[0], factor, sides[1], factor)
                found &= boxes.mean((1, 3)) >= 0.5
            image.pixels[where][found] = box_average(region, factor)[found]
            image.missing[where][found] = False


def _fill(
    slide: Slide,
    index: int,
    level: Level,
    factor: int,
    box: tuple[int, int, int, int],
    image: Thumbnail,
    errors: list[SlideError],
) -> None:
    """Read one block; if that fails, its quarters, to lose as little as possible."""
    row, col, height, width = box
    down = level.downsample
    x, y = round(col * factor * down), round(row * factor * down)
    where = np.s_[row : row + height, col : col + width]
    try:
        sides = (width * factor, height * factor)
        region, held = read_held(slide, index, x, y, *sides)
        image.pixels[where] = box_average(region, factor)
        if held is not None:
            boxes = held.reshape(height, factor, width, factor)
            image.missing[where] = boxes.mean((1, 3)) < 0.5
    except SlideError as error:
        errors.append(error)
        half_h, half_w = -(-height // 2), -(-width // 2)
        if (
            height == width == 1
            or max(half_h, half_w) * factor < _SMALLEST_BLOCK_PX // 2
        ):
            image.readable[where] = False
            return
        for top in range(0, height, half_h):
            for left in range(0, width, half_w):
                size = (min(half_h, height - top), min(half_w, width - left))
                part = (row + top, col + left, *size)
                _fill(slide, index, level, factor, part, image, errors)
