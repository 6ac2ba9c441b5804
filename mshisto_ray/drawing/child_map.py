"""Pictures of the attention of coarse tiles over their finer tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from mshisto_ray.drawing import canvas
from mshisto_ray.drawing.heatmap import COLOURS, rescale

_SIDE_PX = 220
_GAP = 12
_PAIRS_A_ROW = 3
_HEADER_PX = 38
_CAPTION_PX = 24
_ALPHA = 0.55


@dataclass(frozen=True)
class CoarseTile:
    """A coarse tile and the attention over its present children.

    ``pixels``: uint8 [h, w, 3]; ``boxes``: left, top, right, bottom of each child as
    shares of the tile's side, [K, 4]; ``weights``: [K], summing to one; ``caption``.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    weights: np.ndarray
    caption: str


def draw_child_maps(tiles: Sequence[CoarseTile], title: str) -> Image.Image:
    """Draw each tile beside a copy coloured by its children's weights.

    Colours run from a tile's least weight to its greatest; equal weights all have the
    lowest colour. A child that is absent has no colour.

    Source: the layout of Tan et al. 2023, figure 4.
    """
    rows = -(-len(tiles) // _PAIRS_A_ROW)
    pair = 2 * _SIDE_PX + 2 * _GAP
    columns = min(_PAIRS_A_ROW, len(tiles))
    size = (
        _GAP + columns * pair,
        _HEADER_PX + rows * (_SIDE_PX + _CAPTION_PX + _GAP),
    )
    page = Image.new("RGB", size, canvas.PAPER)
    draw = ImageDraw.Draw(page)
    shown = canvas.fit_text(title, 17, size[0] - 2 * _GAP)
    draw.text((_GAP, 19), shown, canvas.INK, canvas.font(17), anchor="lm")
    for place, tile in enumerate(tiles):
        row, col = divmod(place, _PAIRS_A_ROW)
        left = _GAP + col * pair
        top = _HEADER_PX + row * (_SIDE_PX + _CAPTION_PX + _GAP)
        picture = Image.fromarray(tile.pixels).resize((_SIDE_PX, _SIDE_PX))
        page.paste(picture, (left, top))
        page.paste(_coloured(picture, tile), (left + _SIDE_PX + 4, top))
        caption = canvas.fit_text(tile.caption, 13, 2 * _SIDE_PX)
        where = (left, top + _SIDE_PX + 4)
        draw.text(where, caption, canvas.SOFT_INK, canvas.font(13))
    return page


def _coloured(picture: Image.Image, tile: CoarseTile) -> Image.Image:
    pixels = np.asarray(picture, np.float64).copy()
    edges = np.rint(tile.boxes * _SIDE_PX).astype(int)
    colours = COLOURS(rescale(tile.weights))[:, :3] * 255
    for (left, top, right, bottom), colour in zip(edges.tolist(), colours, strict=True):
        part = pixels[top:bottom, left:right]
        pixels[top:bottom, left:right] = part * (1 - _ALPHA) + colour * _ALPHA
    return Image.fromarray(np.rint(pixels).astype(np.uint8))
