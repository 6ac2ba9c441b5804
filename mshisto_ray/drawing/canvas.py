"""Shared parts of the pictures: fonts, sizes, captions, a scale bar."""

from __future__ import annotations

import bisect
import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK = (33, 37, 41)
SOFT_INK = (108, 117, 125)
PAPER = (255, 255, 255)
RULE = (206, 212, 218)

_MIN_SIDE = 640
_MAX_SIDE = 1600
_BAR_SHARE = 0.2  # of the picture's width, at most
# Of PNG: a third of the usual level's time for a tenth more bytes.
_COMPRESSION = 2


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface, so that pictures look the same everywhere."""
    return ImageFont.load_default(size)


def fit_picture(pixels: np.ndarray) -> tuple[Image.Image, float]:
    """The picture with a longer side of 640 to 1600 pixels, and its scale factor.

    Args:
        pixels: uint8 [h, w, 3].
    """
    height, width = pixels.shape[:2]
    longer = max(height, width)
    scale = min(max(longer, _MIN_SIDE), _MAX_SIDE) / longer
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    return image.resize(size, method), scale


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a picture of thousands, one a slide: fast rather than small."""
    picture.save(path, compress_level=_COMPRESSION)


def fit_text(text: str, size: int, width: float) -> str:
    """The text, shortened in the middle if it is wider than ``width`` pixels."""
    if font(size).getlength(text) <= width:
        return text

    def shorten(kept: int) -> str:
        return f"{text[: -(-kept // 2)]}...{text[len(text) - kept // 2 :]}"

    def is_wider(kept: int) -> bool:
        return font(size).getlength(shorten(kept)) > width

    return shorten(max(0, bisect.bisect(range(len(text)), False, key=is_wider) - 1))


def wrap_text(text: str, size: int, width: float, max_lines: int) -> list[str]:
    """Text in lines of at most ``width`` pixels; dots mark what does not fit."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font(size).getlength(joined) <= width:
            lines[-1] = joined
        elif len(lines) < max_lines:
            lines.append(fit_text(word, size, width))
        else:
            while lines[-1] and font(size).getlength(f"{lines[-1]}...") > width:
                lines[-1] = lines[-1][:-1]
            lines[-1] = f"{lines[-1].rstrip(' .')}..."
            break
    return lines


def draw_scale_bar(image: Image.Image, um_per_px: float) -> None:
    """Draw a bar of a round length in the picture's lower left corner."""
    longest = image.width * _BAR_SHARE * um_per_px
    magnitude = 10.0 ** math.floor(math.log10(longest))
    length = max(n * magnitude for n in (1, 2, 5) if n * magnitude <= longest)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} um"
    draw = ImageDraw.Draw(image, "RGBA")
    left, bottom = 14, image.height - 14
    right = left + round(length / um_per_px)
    wide = max(right - left, font(15).getlength(text))
    draw.rounded_rectangle(
        (left - 6, bottom - 28, left + wide + 6, bottom + 6), 4, (255, 255, 255, 205)
    )
    draw.rectangle((left, bottom - 3, right, bottom), INK)
    draw.text((left, bottom - 8), text, INK, font(15), anchor="ls")
