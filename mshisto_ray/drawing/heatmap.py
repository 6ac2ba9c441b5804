"""Scores of tiles (attention, instance scores) as colour over the slide."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from mshisto_ray.drawing import canvas

_MIN_HEIGHT = 320
# Perceptually uniform, and hardly shares a colour with the stain.
COLOURS = matplotlib.colormaps["viridis"]
# The stain competes with the colours of the scores: most of its colour is removed.
_STAIN_KEPT = 0.25
_HEADER_PX = 38
_SIDE_PX = 110
_MARGIN = 14


def rescale(scores: np.ndarray) -> np.ndarray:
    """Scores [N] stretched to 0..1; all zero where they are all equal.

    Source: Ilse et al. 2018, captions of figures 10 to 12: a' = (a - min a) / (max a -
    min a).

    Raises:
        ValueError: a score is not finite.
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("scores: some are not finite, so they have no colour")
    if not scores.size or scores.max() == scores.min():
        return np.zeros_like(scores)
    return (scores - scores.min()) / (scores.max() - scores.min())


@dataclass(frozen=True)
class ScoredTiles:
    """Tiles on a slide in level-0 pixels, each with a score.

    ``x``, ``y``: left and top edges [N]; ``extent``: what they cover, [N] or one
    number; ``scores``: [N].
    """

    x: np.ndarray
    y: np.ndarray
    extent: np.ndarray | float
    scores: np.ndarray


def draw_heatmap(
    thumbnail: np.ndarray,
    ratio: float,
    tiles: ScoredTiles,
    title: str,
    label: str,
    mpp: float | None = None,
    alpha: float = 0.6,
) -> Image.Image:
    """The thumbnail with every tile coloured by its score, and a colour bar.

    Colours run from the slide's least score to its greatest. Where tiles overlap,
    the mean of their rescaled scores is shown.

    Args:
        thumbnail: uint8 [h, w, 3], the whole slide.
        ratio: level-0 pixels per thumbnail pixel.
        tiles: their places and scores.
        title: the line at the top.
        label: what the scores are, beside the colour bar.
        mpp: level-0 micrometres per pixel, for a scale bar.
        alpha: opacity of the colours.
    """
    picture, scale = canvas.fit_picture(thumbnail)
    heat, covered = _paint(tiles, scale / ratio, picture.size)
    colours = COLOURS(heat)[..., :3] * 255
    pixels = _fade(np.asarray(picture, np.float64))
    opacity = np.where(covered, alpha, 0.0)[..., None]
    pixels = pixels * (1 - opacity) + colours * opacity
    picture = Image.fromarray(np.rint(pixels).astype(np.uint8))
    if mpp:
        canvas.draw_scale_bar(picture, mpp * ratio / scale)
    return _with_colour_bar(picture, np.asarray(tiles.scores), title, label)


def _paint(
    tiles: ScoredTiles, px: float, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean rescaled score over each pixel, and where there are tiles; [h, w] each."""
    x, y, extent, values = tiles.x, tiles.y, tiles.extent, rescale(tiles.scores)
    total = np.zeros(size[::-1])
    count = np.zeros(size[::-1])
    boxes = np.stack(np.broadcast_arrays(x, y, x + extent, y + extent), 1) * px
    edges = np.rint(boxes).astype(int)
    # A tile narrower than a pixel is still drawn.
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2] + 1)
    for (left, top, right, bottom), value in zip(edges.tolist(), values, strict=True):
        total[top:bottom, left:right] += value
        count[top:bottom, left:right] += 1
    return total / np.maximum(count, 1), count > 0


def _fade(pixels: np.ndarray) -> np.ndarray:
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    return grey[..., None] * (1 - _STAIN_KEPT) + pixels * _STAIN_KEPT


def _with_colour_bar(
    picture: Image.Image, scores: np.ndarray, title: str, label: str
) -> Image.Image:
    height = max(picture.height, _MIN_HEIGHT)
    width = picture.width + _SIDE_PX
    page = Image.new("RGB", (width, height + _HEADER_PX), canvas.PAPER)
    page.paste(picture, (0, _HEADER_PX))
    draw = ImageDraw.Draw(page)
    shown = canvas.fit_text(title, 17, width - 2 * _MARGIN)
    draw.text((_MARGIN, 19), shown, canvas.INK, canvas.font(17), anchor="lm")
    draw.line((0, _HEADER_PX - 1, width, _HEADER_PX - 1), canvas.RULE)
    _draw_bar(page, draw, picture.width + 18, min(height - 60, 420), scores, label)
    return page


def _draw_bar(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    left: int,
    length: int,
    scores: np.ndarray,
    label: str,
) -> None:
    top = _HEADER_PX + 40
    ramp = COLOURS(np.linspace(1, 0, length))[:, None, :3] * 255
    bar = Image.fromarray(np.rint(ramp).astype(np.uint8)).resize((18, length))
    page.paste(bar, (left, top))
    draw.rectangle((left, top, left + 18, top + length), outline=canvas.SOFT_INK)
    lines = canvas.wrap_text(label, 14, _SIDE_PX - 22, 2)
    for up, line in enumerate(reversed(lines)):
        where = (left, top - 12 - 16 * up)
        draw.text(where, line, canvas.INK, canvas.font(14), anchor="ls")
    if not scores.size:
        return
    lowest, highest = float(scores.min()), float(scores.max())
    constant = lowest == highest
    shares = (0.0,) if constant else (0.0, 0.25, 0.5, 0.75, 1.0)
    for share in shares:
        value = lowest + share * (highest - lowest)
        if abs(value) < 1e-3 * (highest - lowest):
            value = 0.0
        y = top + length * (1 - share)
        draw.line((left + 18, y, left + 22, y), canvas.SOFT_INK)
        draw.text(
            (left + 26, y), f"{value:.3g}", canvas.INK, canvas.font(13), anchor="lm"
        )
