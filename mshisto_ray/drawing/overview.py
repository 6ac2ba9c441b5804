"""A slide at a glance: the tissue found on it and the tiles planned on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from mshisto_ray.drawing import canvas

# Height of the caption; ``crop((0, HEADER_PX, width, height))`` removes it.
HEADER_PX = 60
_MIN_WIDTH = 640
_TISSUE = (0, 143, 90)
# Finest first; distinct from each other and from eosin and haematoxylin for most eyes.
_SCALES = ((0, 166, 237), (245, 130, 32), (20, 20, 20), (120, 94, 240))
_NARROWEST_CELL_PX = 6  # below this lines would hide the tissue: tint instead
_ROOMY_CELL_PX = 40  # from here the coarser scales get a stronger line
_TINT = 0.22
_MARGIN = 14

Tiles = tuple[np.ndarray, np.ndarray, np.ndarray | float, np.ndarray]


def draw_overview(
    thumbnail: np.ndarray,
    ratio: float,
    tissue: np.ndarray,
    tiles: Mapping[float, Tiles],
    title: str,
    mpp: float | None = None,
) -> Image.Image:
    """The thumbnail with the outline of the tissue and the grid of every scale.

    Tiles with enough tissue of their own have full lines; those planned only as
    parents of others have faint ones. Where the cells of a scale are narrower than 6
    pixels its tiles are tinted instead.

    Args:
        thumbnail: uint8 [h, w, 3], the whole slide.
        ratio: level-0 pixels per thumbnail pixel.
        tissue: bool [h, w].
        tiles: by scale (um/px): x, y, extent (level-0 px; extent may be one number)
            and own, arrays [N].
        title: the line at the top.
        mpp: level-0 micrometres per pixel, for a scale bar.
    """
    picture, scale = canvas.fit_picture(thumbnail)
    px = scale / ratio
    layers = sorted(tiles.items())
    pixels = np.asarray(picture, np.float32)
    for index, (_, (x, y, extent, own)) in enumerate(layers):
        extent = np.broadcast_to(np.asarray(extent, float), np.shape(x))
        boxes = np.stack([x, y, x + extent, y + extent], 1).reshape(-1, 4) * px
        roomy = boxes.size and boxes[0, 2] - boxes[0, 0] >= _ROOMY_CELL_PX
        width = 2 if index >= 2 and roomy else 1
        for chosen, opacity in ((~own, 0.35), (own, 0.9)):
            mask, lines = _tile_mask(boxes[chosen], picture.size, width)
            strength = opacity * (1.0 if lines else _TINT)
            pixels = _blend(pixels, mask, _SCALES[index % len(_SCALES)], strength)
    pixels = _blend(pixels, _outline(tissue, picture.size), _TISSUE, 1.0)
    picture = Image.fromarray(np.rint(pixels).astype(np.uint8))
    if mpp:
        canvas.draw_scale_bar(picture, mpp / px)
    return _with_header(picture, title, sorted(tiles))


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
    pixels: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], strength: float
) -> np.ndarray:
    opacity = (mask * strength)[..., None].astype(np.float32)
    return pixels * (1 - opacity) + np.array(colour, np.float32) * opacity


def _with_header(picture: Image.Image, title: str, scales: list[float]) -> Image.Image:
    width = max(picture.width, _MIN_WIDTH)
    page = Image.new("RGB", (width, picture.height + HEADER_PX), canvas.PAPER)
    page.paste(picture, ((width - picture.width) // 2, HEADER_PX))
    draw = ImageDraw.Draw(page)
    shown = canvas.fit_text(title, 17, width - 2 * _MARGIN)
    draw.text((_MARGIN, 19), shown, canvas.INK, canvas.font(17), anchor="lm")
    keys = [("tissue", _TISSUE)]
    keys += [
        (f"{scale:g} um/px", _SCALES[index % len(_SCALES)])
        for index, scale in enumerate(scales)
    ]
    left = _MARGIN
    for text, colour in keys:
        draw.rectangle((left, 38, left + 12, 50), outline=colour, width=2)
        draw.text((left + 18, 44), text, canvas.SOFT_INK, canvas.font(13), anchor="lm")
        left += 18 + round(canvas.font(13).getlength(text)) + 18
    draw.line((0, HEADER_PX - 1, width, HEADER_PX - 1), canvas.RULE)
    return page
