"""A whole cohort on one page: every slide's picture, or the reason it has none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from mshisto_ray.drawing import canvas

_MAX_PIXELS = 40_000_000
_MAX_CELL = 480
_MIN_CELL = 48
_GAP = 8
_FAILED = (233, 236, 239)
_FAILED_EDGE = (173, 181, 189)
_REASON = (134, 38, 51)


def draw_contact_sheet(
    items: Sequence[tuple[str, Image.Image | str]],
) -> Image.Image:
    """Draw labelled pictures in rows; a text is drawn in a grey box.

    Cells shrink as slides become many, so the page stays near 40 megapixels.
    """
    cell = _cell_side(items)
    size = 13 if cell >= 140 else 9
    label = size + 7
    columns = max(1, math.ceil(math.sqrt(len(items) * (cell + label) / cell)))
    rows = max(1, math.ceil(len(items) / columns))
    step_x, step_y = cell + _GAP, cell + label + _GAP
    page = Image.new(
        "RGB", (columns * step_x + _GAP, rows * step_y + _GAP), canvas.PAPER
    )
    draw = ImageDraw.Draw(page)
    for index, (name, content) in enumerate(items):
        left = _GAP + index % columns * step_x
        top = _GAP + index // columns * step_y
        shown = canvas.fit_text(name, size, cell)
        draw.text(
            (left, top + label / 2), shown, canvas.INK, canvas.font(size), anchor="lm"
        )
        _fill_cell(page, draw, (left, top + label), cell, size, content)
    return page


def _cell_side(items: Sequence[tuple[str, Image.Image | str]]) -> int:
    """Side of a cell in pixels: of the largest picture, within the page's limit."""
    sides = [max(c.size) for _, c in items if isinstance(c, Image.Image)]
    wanted = min(max(sides, default=240), _MAX_CELL)
    fits = math.isqrt(_MAX_PIXELS // max(1, len(items))) - _GAP
    return max(_MIN_CELL, min(wanted, fits))


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
