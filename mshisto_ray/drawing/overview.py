"""A slide at a glance: its tissue, the tiles planned on it, and its annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from mshisto_ray.drawing import canvas, legend
from mshisto_ray.drawing.outlines import Outline, draw_outlines, outline_keys

# Height of the caption; ``crop((0, HEADER_PX, width, height))`` removes it.
HEADER_PX = 60
_MIN_WIDTH = 640
_NARROWEST_CELL_PX = 6  # below this lines would hide the tissue: tint instead
_ROOMY_CELL_PX = 40  # from here the coarser scales get a stronger line
_TINT = 0.22
_MARGIN = 14


@dataclass(frozen=True)
class ScaleTiles:
    """Tiles of one scale in level-0 pixels, arrays [N].

    ``extent``: side of the tiles; ``own``: with enough tissue of their own;
    ``coverage``: share of the slide's tissue that these hold; ``rank``: of the scale
    among those of the cohort, 0 for the finest: it decides the colour.
    """

    x: np.ndarray
    y: np.ndarray
    extent: float
    own: np.ndarray
    coverage: float
    rank: int


def draw_overview(
    thumbnail: np.ndarray,
    ratio: float,
    tissue: np.ndarray,
    tiles: Mapping[float, ScaleTiles],
    title: str,
    mpp: float | None = None,
    outlines: Sequence[Outline] = (),
) -> Image.Image:
    """The thumbnail with outlines of tissue and annotation and the grid of each scale.

    Tiles with enough tissue of their own have full lines; those planned only as
    parents of others have faint ones. Where the cells of a scale are narrower than 6
    pixels its tiles are tinted instead.

    Args:
        thumbnail: uint8 [h, w, 3], the whole slide.
        ratio: level-0 pixels per thumbnail pixel.
        tissue: bool [h, w].
        tiles: by scale (um/px).
        title: the line at the top.
        mpp: level-0 micrometres per pixel, for a scale bar.
        outlines: of annotated regions; a colour a class.
    """
    picture, scale = canvas.fit_picture(thumbnail)
    px = scale / ratio
    layers = sorted(tiles.items())
    pixels = np.array(picture, np.float32)
    for _, one in layers:
        x, y, extent = one.x, one.y, one.extent
        boxes = np.stack([x, y, x + extent, y + extent], 1).reshape(-1, 4) * px
        width = 2 if one.rank >= 2 and extent * px >= _ROOMY_CELL_PX else 1
        for chosen, opacity in ((~one.own, 0.35), (one.own, 0.9)):
            mask, lines = _tile_mask(boxes[chosen], picture.size, width)
            strength = opacity * (1.0 if lines else _TINT)
            _blend(pixels, mask, legend.scale_colour(one.rank), strength)
    _blend(pixels, _outline(tissue, picture.size), legend.TISSUE, 1.0)
    picture = Image.fromarray(np.rint(pixels).astype(np.uint8))
    draw_outlines(picture, outlines, px)
    if mpp:
        canvas.draw_scale_bar(picture, mpp / px)
    return _with_header(picture, title, [*_keys(layers), *outline_keys(outlines)])


def _keys(layers: Sequence[tuple[float, ScaleTiles]]) -> list[legend.Key]:
    """Tissue, and each scale with the share of tissue in its own tiles."""
    scales = [
        legend.Key(
            f"{scale:g} um/px: {one.coverage:.0%} of it", legend.scale_colour(one.rank)
        )
        for scale, one in layers
    ]
    return [legend.Key("tissue", legend.TISSUE), *scales]


def _tile_mask(
    boxes: np.ndarray, size: tuple[int, int], width: int
) -> tuple[np.ndarray, bool]:
    """Opacity [h, w] in 0..1 of the tiles' lines, or of their areas if too narrow."""
    layer = Image.new("L", size)
    if not len(boxes):
        return np.asarray(layer) / 255, True
    draw = ImageDraw.Draw(layer)
    lines = bool(np.min(boxes[:, 2] - boxes[:, 0]) >= _NARROWEST_CELL_PX)
    for left, top, right, bottom in np.rint(boxes).astype(int).tolist():
        if lines:
            draw.rectangle((left, top, right, bottom), outline=255, width=width)
        else:
            draw.rectangle((left, top, right - 1, bottom - 1), fill=255)
    return np.asarray(layer) / 255, lines


def _outline(tissue: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    smooth = Image.fromarray(tissue.astype(np.uint8) * 255).resize(size)
    mask = np.asarray(smooth) >= 128
    return (mask & ~ndimage.binary_erosion(mask, iterations=2)).astype(np.float32)


def _blend(
    pixels: np.ndarray, mask: np.ndarray, colour: legend.Colour, strength: float
) -> None:
    """Mix a colour into float32 pixels [h, w, 3], where there is any mask [h, w]."""
    flat, where = pixels.reshape(-1, 3), np.flatnonzero(mask)
    opacity = (mask.ravel()[where] * strength)[:, None].astype(np.float32)
    mixed = flat[where] * (1 - opacity) + np.array(colour, np.float32) * opacity
    flat[where] = mixed


def _with_header(
    picture: Image.Image, title: str, keys: Sequence[legend.Key]
) -> Image.Image:
    width = max(picture.width, _MIN_WIDTH)
    page = Image.new("RGB", (width, picture.height + HEADER_PX), canvas.PAPER)
    page.paste(picture, ((width - picture.width) // 2, HEADER_PX))
    draw = ImageDraw.Draw(page)
    shown = canvas.fit_text(title, 17, width - 2 * _MARGIN)
    draw.text((_MARGIN, 19), shown, canvas.INK, canvas.font(17), anchor="lm")
    legend.draw_keys(draw, (_MARGIN, 44), width - 2 * _MARGIN, keys)
    draw.line((0, HEADER_PX - 1, width, HEADER_PX - 1), canvas.RULE)
    return page
