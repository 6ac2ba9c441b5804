"""The small images of a bag: as they are, weighted by their scores, and the truth."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from mshisto_ray.drawing import canvas
from mshisto_ray.drawing.heatmap import rescale

_GAP = 2
_MARGIN = 12
_HEADER_PX = 30
_WIDTH_PX = 520  # of a panel, at least


def draw_instances(
    images: np.ndarray, scores: np.ndarray, is_positive: np.ndarray, title: str
) -> Image.Image:
    """Three panels of a bag's images, at the same places in each.

    All of them; each multiplied by its rescaled score, so that those without are black;
    the positive ones.

    Args:
        images: uint8 [N, h, w, 3].
        scores: attention or the like, [N].
        is_positive: the truth, bool [N].
        title: of the picture.

    Source: Ilse et al. 2018, figures 10 to 12, whose images are put together from
    their patches where these lie; here they lie row by row, as places are not known.
    """
    weights = rescale(scores.astype(float))
    panels = (
        ("images", np.ones(len(images))),
        ("multiplied by rescaled attention", weights),
        ("positive ones", is_positive.astype(float)),
    )
    drawn = [_panel(images, weight) for _, weight in panels]
    width, height = drawn[0].size
    size = (3 * width + 4 * _MARGIN, height + 2 * _HEADER_PX + 2 * _MARGIN)
    picture = Image.new("RGB", size, canvas.PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), title, canvas.INK, canvas.font(16))
    for place, ((name, _), panel) in enumerate(zip(panels, drawn, strict=True)):
        left, top = _MARGIN + place * (width + _MARGIN), _MARGIN + _HEADER_PX
        draw.text((left, top), name, canvas.SOFT_INK, canvas.font(14))
        picture.paste(panel, (left, top + _HEADER_PX))
    return picture


def _panel(images: np.ndarray, weights: np.ndarray) -> Image.Image:
    """Images [N, h, w, 3] times their weights, row by row, on black."""
    num, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    shape = (rows * (height + _GAP), columns * (width + _GAP), 3)
    pixels = np.zeros(shape, np.uint8)
    for place, (image, weight) in enumerate(zip(images, weights, strict=True)):
        y, x = divmod(place, columns)
        y, x = y * (height + _GAP), x * (width + _GAP)
        pixels[y : y + height, x : x + width] = np.round(image * weight)
    panel = Image.fromarray(pixels)
    enlarged = max(1, round(_WIDTH_PX / panel.width))
    return panel.resize((panel.width * enlarged, panel.height * enlarged), 0)
