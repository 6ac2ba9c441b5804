"""Many slides on one page: every slide's picture, or the reason it has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from mshisto_ray.drawing import canvas, legend

# A hundred cells of a side that still shows where tiles lie; JPEG of 1 to 3 MB.
_MAX_PIXELS = 12_000_000
_MAX_CELL = 480
_MIN_CELL = 48
_MIN_WIDTH = 900
_GAP = 8
_HEADER_PX = 84
_TITLE_PX, _KEYS_PX, _TEXT_PX = 20, 46, 68
_FAILED = (233, 236, 239)
_FAILED_EDGE = (173, 181, 189)
_REASON = (134, 38, 51)


@dataclass(frozen=True)
class Cell:
    """A slide of the sheet: its name and picture, or the reason why it has none.

    ``number`` is written beside the name, in red if it ``warns``.
    """

    name: str
    content: Image.Image | str
    number: str = ""
    warns: bool = False


def cell_side(num: int) -> int:
    """The largest side of a cell in pixels on a page of ``num`` slides."""
    fits = math.isqrt(_MAX_PIXELS // max(1, num)) - _GAP
    return max(_MIN_CELL, min(_MAX_CELL, fits))


def draw_contact_sheet(
    cells: Sequence[Cell], title: str, keys: Sequence[legend.Key], text: str = ""
) -> Image.Image:
    """Draw slides in rows below a title, the keys of the colours and a line of text.

    Cells shrink as slides become many, so the page stays near 12 megapixels.
    """
    cell = _cell_side(cells)
    size = 13 if cell >= 140 else 9
    label = size + 7
    columns = max(1, math.ceil(math.sqrt(len(cells) * (cell + label) / cell)))
    columns = max(columns, min(len(cells), _MIN_WIDTH // (cell + _GAP)))
    rows = max(1, math.ceil(len(cells) / columns))
    step_x, step_y = cell + _GAP, cell + label + _GAP
    width = max(_MIN_WIDTH, columns * step_x + _GAP)
    page = Image.new("RGB", (width, _HEADER_PX + rows * step_y + _GAP), canvas.PAPER)
    draw = ImageDraw.Draw(page)
    _draw_header(draw, width, title, keys, text)
    for index, one in enumerate(cells):
        left = _GAP + index % columns * step_x
        top = _HEADER_PX + _GAP + index // columns * step_y
        _draw_label(draw, (left, top + label // 2), cell, size, one)
        _fill_cell(page, draw, (left, top + label), cell, size, one.content)
    return page


def _draw_header(
    draw: ImageDraw.ImageDraw,
    width: int,
    title: str,
    keys: Sequence[legend.Key],
    text: str,
) -> None:
    room = width - 2 * _GAP
    shown = canvas.fit_text(title, 17, room)
    draw.text((_GAP, _TITLE_PX), shown, canvas.INK, canvas.font(17), anchor="lm")
    legend.draw_keys(draw, (_GAP, _KEYS_PX), room, keys)
    shown = canvas.fit_text(text, 13, room)
    draw.text((_GAP, _TEXT_PX), shown, canvas.SOFT_INK, canvas.font(13), anchor="lm")
    draw.line((0, _HEADER_PX - 1, width, _HEADER_PX - 1), canvas.RULE)


def _draw_label(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], cell: int, size: int, one: Cell
) -> None:
    left, middle = corner
    font = canvas.font(size)
    colour = _REASON if one.warns else canvas.SOFT_INK
    draw.text((left + cell, middle), one.number, colour, font, anchor="rm")
    room = cell - (font.getlength(one.number) + size if one.number else 0)
    shown = canvas.fit_text(one.name, size, room)
    draw.text((left, middle), shown, canvas.INK, font, anchor="lm")


def _cell_side(cells: Sequence[Cell]) -> int:
    """Side of a cell in pixels: of the largest picture, within the page's limit."""
    pictures = [c.content for c in cells if isinstance(c.content, Image.Image)]
    sides = [max(picture.size) for picture in pictures]
    return max(_MIN_CELL, min(max(sides, default=240), cell_side(len(cells))))


def _fill_cell(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    cell: int,
    size: int,
    content: Image.Image | str,
) -> None:
    left, top = corner
    frame = (left - 1, top - 1, left + cell, top + cell)
    if isinstance(content, Image.Image):
        picture = content.convert("RGB")
        picture.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        x = left + (cell - picture.width) // 2
        y = top + (cell - picture.height) // 2
        page.paste(picture, (x, y))
        draw.rectangle(frame, outline=canvas.RULE)
        return
    draw.rectangle(frame, fill=_FAILED, outline=_FAILED_EDGE)
    height = size + 4
    lines = canvas.wrap_text(content, size, cell - 16, max(1, cell // height - 1))
    y = top + (cell - height * len(lines)) / 2 + height / 2
    for line in lines:
        middle = (left + cell / 2, y)
        draw.text(middle, line, _REASON, canvas.font(size), anchor="mm")
        y += height
