"""Outlines of annotated regions, a colour a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mshisto_ray.drawing import canvas, legend

# Class and points x, y [N, 2] of a ring in level-0 pixels.
Outline = tuple[str, np.ndarray]
POINT = "found point"  # class of rings that are circles around points
_RING_SHARE = 1 / 400  # width of a line, of the picture: it shows when made small


def draw_outlines(picture: Image.Image, outlines: Sequence[Outline], px: float) -> None:
    """Draw rings; ``px``: pixels of the picture per level-0 pixel."""
    classes = _classes(outlines)
    for name, points in outlines:
        _draw_ring(picture, points * px, legend.class_colour(classes.index(name)))


def outline_keys(outlines: Sequence[Outline]) -> list[legend.Key]:
    """The classes and their colours, ``POINT`` as a circle."""
    classes = _classes(outlines)
    return [
        legend.Key(name, legend.class_colour(i), name == POINT)
        for i, name in enumerate(classes)
    ]


def _classes(outlines: Sequence[Outline]) -> list[str]:
    return sorted({name for name, _ in outlines})


def _draw_ring(picture: Image.Image, points: np.ndarray, colour: legend.Colour) -> None:
    """A line with a dark edge: it must show on pale and on dark tissue."""
    draw = ImageDraw.Draw(picture)
    line = [(x, y) for x, y in points.tolist()]
    width = max(2, round(max(picture.size) * _RING_SHARE))
    draw.line(line, canvas.INK, width + 2, joint="curve")
    draw.line(line, colour, width, joint="curve")
