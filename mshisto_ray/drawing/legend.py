"""Colours of what is drawn on a slide, and the keys that explain them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import ImageDraw

from mshisto_ray.drawing import canvas

Colour = tuple[int, int, int]


class Key(NamedTuple):
    """What a colour means; ``is_round``: it is drawn as circles on the slide."""

    text: str
    colour: Colour
    is_round: bool = False


TISSUE: Colour = (0, 143, 90)
# Finest first; distinct from each other and from eosin and haematoxylin for most eyes.
_SCALES: tuple[Colour, ...] = ((0, 166, 237), (245, 130, 32), (20, 20, 20),
                               (120, 94, 240))  # fmt: skip
_CLASSES: tuple[Colour, ...] = ((255, 214, 0), (214, 24, 60), (255, 0, 200),
                                (0, 224, 208), (255, 255, 255))  # fmt: skip
_TEXT_PX = 13
_BOX_PX = 12
_SPACE_PX = 18


def scale_colour(index: int) -> Colour:
    """Of the tiles of a scale, 0 for the finest."""
    return _SCALES[index % len(_SCALES)]


def class_colour(index: int) -> Colour:
    """Of the outlines of an annotation's class, 0 for the first."""
    return _CLASSES[index % len(_CLASSES)]


def draw_keys(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, keys: Sequence[Key]
) -> None:
    """Draw a coloured box or circle and a text for each key, in a row.

    ``corner``: its left middle.

    Keys beyond ``width`` pixels are counted instead.
    """
    left, y = corner
    end = left + width
    font = canvas.font(_TEXT_PX)
    for index, (text, colour, is_round) in enumerate(keys):
        more = f"and {len(keys) - index} more"
        room = end - left - _SPACE_PX
        if index < len(keys) - 1:
            room -= font.getlength(more) + _SPACE_PX
        if font.getlength(text) > room and index:
            draw.text((left, y), more, canvas.SOFT_INK, font, anchor="lm")
            return
        box = (left, y - _BOX_PX // 2, left + _BOX_PX, y + _BOX_PX // 2)
        shape = draw.ellipse if is_round else draw.rectangle
        shape(box, outline=colour, width=2)
        shown = canvas.fit_text(text, _TEXT_PX, room)
        where = (left + _SPACE_PX, y)
        draw.text(where, shown, canvas.SOFT_INK, font, anchor="lm")
        left += 2 * _SPACE_PX + round(font.getlength(shown))
