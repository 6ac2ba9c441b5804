"""Scores of tiles (attention, instance scores) as colour over the slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from mshisto_ray.drawing import canvas, legend
from mshisto_ray.drawing.outlines import Outline, draw_outlines, outline_keys

_MIN_HEIGHT = 320
# Perceptually uniform, and hardly shares a colour with the stain.
COLOURS = matplotlib.colormaps["viridis"]
# The stain competes with the colours of the scores: most of its colour is removed.
_STAIN_KEPT = 0.25
_ALPHA = 0.65
# Colours lower than this share of the bar are transparent, and full from the next on.
_CLEAR, _FULL = 0.5, 0.75
_HEADER_PX = 38
_SIDE_PX = 158
_MARGIN = 14
_LINE_PX = 19

Spread = Literal["percentile", "absolute"]


@dataclass(frozen=True)
class ScoredTiles:
    """Tiles on a slide in level-0 pixels, each with a score.

    ``x``, ``y``: left and top edges [N]; ``extent``: what they cover, [N] or one
    number; ``scores``: [N]; ``spread``: ``percentile`` for scores that are compared
    within a slide, ``absolute`` for probabilities, which are compared between slides.
    """

    x: np.ndarray
    y: np.ndarray
    extent: np.ndarray | float
    scores: np.ndarray
    spread: Spread = "percentile"


@dataclass(frozen=True)
class Caption:
    """``title``: the line at the top; ``label``: of the bar; ``meaning``: below."""

    title: str
    label: str
    meaning: str = ""


def rescale(scores: np.ndarray) -> np.ndarray:
    """Scores [N] stretched to 0..1; all zero where they are all equal.

    Source: Ilse et al. 2018, captions of figures 10 to 12: a' = (a - min a) / (max a -
    min a).

    Raises:
        ValueError: a score is not finite.
    """
    scores = _finite(scores)
    if not scores.size or scores.max() == scores.min():
        return np.zeros_like(scores)
    return (scores - scores.min()) / (scores.max() - scores.min())


def percentiles(scores: np.ndarray) -> np.ndarray:
    """Share of the other scores below each [N], ties counted half; 0 if all are equal.

    One extreme score leaves the colours of the others as they are.

    Raises:
        ValueError: a score is not finite.
    """
    scores = _finite(scores)
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return np.zeros_like(scores)
    below = np.cumsum(counts) - counts
    return ((below + (counts - 1) / 2) / (len(scores) - 1))[place]


def _finite(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("scores: some are not finite, so they have no colour")
    return scores


def draw_heatmap(
    thumbnail: np.ndarray,
    ratio: float,
    tiles: ScoredTiles,
    caption: Caption,
    mpp: float | None = None,
    outlines: Sequence[Outline] = (),
) -> Image.Image:
    """The slide beside the same with its tiles coloured by score, and a colour bar.

    Colours run over the percentiles of the slide's scores, or over 0 to 1 for absolute
    ones. The lower half is transparent: the tissue shows. Where tiles overlap, the
    mean of their places on the bar is shown.

    Args:
        thumbnail: uint8 [h, w, 3], the whole slide.
        ratio: level-0 pixels per thumbnail pixel.
        tiles: their places and scores.
        caption: the texts.
        mpp: level-0 micrometres per pixel, for a scale bar.
        outlines: of annotated regions.
    """
    picture, scale = canvas.fit_picture(thumbnail)
    heat, covered = _paint(tiles, scale / ratio, picture.size)
    colours = COLOURS(heat)[..., :3] * 255
    pixels = _fade(np.asarray(picture, np.float64))
    opacity = np.where(covered, opacity_of(heat), 0.0)[..., None]
    pixels = pixels * (1 - opacity) + colours * opacity
    panels = [picture, Image.fromarray(np.rint(pixels).astype(np.uint8))]
    for panel in panels:
        draw_outlines(panel, outlines, scale / ratio)
        if mpp:
            canvas.draw_scale_bar(panel, mpp * ratio / scale)
    return _page(_beside(*panels), tiles, caption, outline_keys(outlines))


def opacity_of(place: np.ndarray) -> np.ndarray:
    """Opacity of a colour by its place on the bar, 0..1."""
    return _ALPHA * np.clip((place - _CLEAR) / (_FULL - _CLEAR), 0, 1)


def _places(tiles: ScoredTiles) -> np.ndarray:
    """Place of each score on the bar, 0..1 [N]."""
    if tiles.spread == "percentile":
        return percentiles(tiles.scores)
    return np.clip(_finite(tiles.scores), 0, 1)


def _paint(
    tiles: ScoredTiles, px: float, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean place on the bar at each pixel, and where there are tiles; [h, w] each."""
    x, y, extent, values = tiles.x, tiles.y, tiles.extent, _places(tiles)
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


def _beside(first: Image.Image, second: Image.Image) -> Image.Image:
    """Two pictures of one size, side by side, or stacked where they are wide."""
    width, height = first.size
    right, down = (0, height + _MARGIN) if width > height else (width + _MARGIN, 0)
    both = Image.new("RGB", (width + right, height + down), canvas.PAPER)
    both.paste(first, (0, 0))
    both.paste(second, (right, down))
    return both


def _page(
    pictures: Image.Image,
    tiles: ScoredTiles,
    caption: Caption,
    keys: Sequence[legend.Key],
) -> Image.Image:
    """Title, pictures, colour bar at their right, keys and meaning below."""
    width = pictures.width + _SIDE_PX
    height = max(pictures.height, _MIN_HEIGHT)
    room = width - 2 * _MARGIN
    lines = canvas.wrap_text(caption.meaning, 14, room, 3) if caption.meaning else []
    footer = _LINE_PX * (len(lines) + bool(keys)) + (_MARGIN if lines or keys else 0)
    page = Image.new("RGB", (width, _HEADER_PX + height + footer), canvas.PAPER)
    page.paste(pictures, (0, _HEADER_PX))
    draw = ImageDraw.Draw(page)
    shown = canvas.fit_text(caption.title, 17, room)
    draw.text((_MARGIN, 19), shown, canvas.INK, canvas.font(17), anchor="lm")
    draw.line((0, _HEADER_PX - 1, width, _HEADER_PX - 1), canvas.RULE)
    _draw_bar(page, pictures.width + 18, min(height - 60, 420), tiles, caption.label)
    y = _HEADER_PX + height + _LINE_PX
    if keys:
        legend.draw_keys(draw, (_MARGIN, y), room, keys)
        y += _LINE_PX
    for line in lines:
        draw.text((_MARGIN, y), line, canvas.SOFT_INK, canvas.font(14), anchor="lm")
        y += _LINE_PX
    return page


def _draw_bar(
    page: Image.Image, left: int, length: int, tiles: ScoredTiles, label: str
) -> None:
    """The colours as they look on white, and the scores at some places of the bar."""
    draw, top = ImageDraw.Draw(page), _HEADER_PX + 40
    places = np.linspace(1, 0, length)
    opacity = opacity_of(places)[:, None]
    ramp = 255 * (COLOURS(places)[:, :3] * opacity + 1 - opacity)
    bar = Image.fromarray(np.rint(ramp).astype(np.uint8)[:, None]).resize((18, length))
    page.paste(bar, (left, top))
    draw.rectangle((left, top, left + 18, top + length), outline=canvas.SOFT_INK)
    lines = canvas.wrap_text(label, 14, _SIDE_PX - 22, 2)
    for up, line in enumerate(reversed(lines)):
        where = (left, top - 12 - 16 * up)
        draw.text(where, line, canvas.INK, canvas.font(14), anchor="ls")
    for place, text in _ticks(tiles):
        y = top + length * (1 - place)
        draw.line((left + 18, y, left + 22, y), canvas.SOFT_INK)
        draw.text((left + 26, y), text, canvas.INK, canvas.font(13), anchor="lm")


def _ticks(tiles: ScoredTiles) -> list[tuple[float, str]]:
    """Places on the bar, and the score that a tile there has."""
    if tiles.spread == "absolute":
        return [(place, f"{place:g}") for place in (0.0, 0.25, 0.5, 0.75, 1.0)]
    scores = np.asarray(tiles.scores)
    if not scores.size or scores.min() == scores.max():
        return [(0.0, f"{scores[0]:.3g}")] if scores.size else []
    places = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    values = np.quantile(scores, places)
    names = ("least", "25 %", "median", "75 %", "90 %", "most")
    return [
        (place, f"{value:.3g}  {name}")
        for place, value, name in zip(places, values, names, strict=True)
    ]
