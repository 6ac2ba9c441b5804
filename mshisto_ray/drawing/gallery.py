"""The tiles of a slide with the highest and the lowest scores, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from mshisto_ray.drawing import canvas

A_ROW = 6
_TILE_PX = 168
_SLIDE_PX = 420
_GAP = 12
_HEADER_PX = 38
_LINE_PX = 18
_CAPTION_PX = 2 * _LINE_PX + 4
_NAME_PX = 26
# Of the boxes and numbers of the highest and lowest tiles on the slide.
_HIGHEST, _LOWEST = (200, 30, 60), (40, 90, 200)


@dataclass(frozen=True)
class ShownTile:
    """A tile: uint8 pixels [h, w, 3], level-0 place ``x, y, extent``, ``score``.

    ``name``: its place in words.
    """

    pixels: np.ndarray
    x: float
    y: float
    extent: float
    score: float
    name: str


def draw_gallery(
    thumbnail: np.ndarray,
    ratio: float,
    highest: Sequence[ShownTile],
    lowest: Sequence[ShownTile],
    title: str,
) -> Image.Image:
    """The slide with numbered places, beside the tiles, in rows of six.

    Args:
        thumbnail: uint8 [h, w, 3], the whole slide.
        ratio: level-0 pixels per thumbnail pixel.
        highest: tiles with the highest scores, at most six, the highest first.
        lowest: tiles with the lowest scores, at most six, the lowest first.
        title: the line at the top.
    """
    map_of_slide = _map(thumbnail, ratio, highest, lowest)
    row = _NAME_PX + _TILE_PX + _CAPTION_PX + _GAP
    columns = max(len(highest), len(lowest), 1)
    width = _SLIDE_PX + 3 * _GAP + columns * (_TILE_PX + _GAP)
    height = _HEADER_PX + max(2 * row, map_of_slide.height + 2 * _GAP)
    page = Image.new("RGB", (width, height), canvas.PAPER)
    draw = ImageDraw.Draw(page)
    shown = canvas.fit_text(title, 17, width - 2 * _GAP)
    draw.text((_GAP, 19), shown, canvas.INK, canvas.font(17), anchor="lm")
    page.paste(map_of_slide, (_GAP, _HEADER_PX + _GAP))
    left = _SLIDE_PX + 3 * _GAP
    rows = (("highest", highest, _HIGHEST), ("lowest", lowest, _LOWEST))
    for index, (name, tiles, colour) in enumerate(rows):
        top = _HEADER_PX + index * row
        draw.text((left, top + 6), name, colour, canvas.font(15))
        for place, tile in enumerate(tiles):
            corner = (left + place * (_TILE_PX + _GAP), top + _NAME_PX)
            _paste(page, tile, corner, f"{name[0].upper()}{place + 1}")
    return page


def _paste(
    page: Image.Image, tile: ShownTile, corner: tuple[int, int], name: str
) -> None:
    picture = Image.fromarray(tile.pixels).resize((_TILE_PX, _TILE_PX))
    page.paste(picture, corner)
    draw, font = ImageDraw.Draw(page), canvas.font(13)
    for line, text in enumerate((f"{name}: {tile.score:.3g}", tile.name)):
        where = (corner[0], corner[1] + _TILE_PX + 4 + line * _LINE_PX)
        shown = canvas.fit_text(text, 13, _TILE_PX)
        draw.text(where, shown, canvas.SOFT_INK, font)


def _map(
    thumbnail: np.ndarray,
    ratio: float,
    highest: Sequence[ShownTile],
    lowest: Sequence[ShownTile],
) -> Image.Image:
    """The slide, at most as wide as its column, with the place of every tile."""
    height, width = thumbnail.shape[:2]
    scale = _SLIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(np.ascontiguousarray(thumbnail)).resize(size)
    draw = ImageDraw.Draw(picture)
    px = scale / ratio
    for tiles, letter, colour in ((lowest, "L", _LOWEST), (highest, "H", _HIGHEST)):
        for place, tile in enumerate(tiles):
            side = max(tile.extent * px, 5.0)  # seen however large the slide is
            left, top = tile.x * px, tile.y * px
            draw.rectangle((left, top, left + side, top + side), None, colour, 2)
            name, font = f"{letter}{place + 1}", canvas.font(12)
            x = min(left + side + 3, size[0] - font.getlength(name) - 1)
            at = (x, min(max(top + side / 2, 7), size[1] - 7))
            draw.text(at, name, colour, font, anchor="lm", stroke_width=2,
                      stroke_fill=canvas.PAPER)  # fmt: skip
    return picture
