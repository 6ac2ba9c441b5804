"""Pairs of tiles that an encoder is pretrained on, before and after augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mshisto_ray.contrastive.samples import SamplePair
from mshisto_ray.drawing import canvas

SHOWN = 8  # pairs of a sheet
_CELL, _GAP, _TEXT, _TOP = 144, 10, 20, 64
_HEADS = ("first tile", "as trained on", "second tile", "as trained on")


def draw_pair_sheet(title: str, pairs: Sequence[SamplePair]) -> Image.Image:
    """One row per pair: the first tile plain and augmented, then the second one.

    Args:
        title: above all rows.
        pairs: of ``sample_pairs``.
    """
    height = _TOP + len(pairs) * (_CELL + _TEXT + _GAP) + _GAP
    page = Image.new("RGB", (_left(4) + _GAP, height), canvas.PAPER)
    draw = ImageDraw.Draw(page)
    shown = canvas.fit_text(title, 16, page.width - 2 * _GAP)
    draw.text((_GAP, 20), shown, canvas.INK, canvas.font(16), anchor="lm")
    for column, head in enumerate(_HEADS):
        at = (_left(column), 48)
        draw.text(at, head, canvas.SOFT_INK, canvas.font(13), anchor="lm")
    for line, pair in enumerate(pairs):
        top = _TOP + line * (_CELL + _TEXT + _GAP)
        tiles = (pair.plain[0], pair.seen[0], pair.plain[1], pair.seen[1])
        for column, pixels in enumerate(tiles):
            page.paste(_picture(pixels), (_left(column), top))
        below = top + _CELL + _TEXT / 2
        for column, text in ((0, f"{pair.mpp[0]:g} um/px"), (2, _relation(pair))):
            at = (_left(column), below)
            draw.text(at, text, canvas.INK, canvas.font(13), anchor="lm")
    return page


def _left(column: int) -> int:
    # A wider gap before the second tile.
    return _GAP + column * (_CELL + _GAP) + (2 * _GAP if column >= 2 else 0)


def _relation(pair: SamplePair) -> str:
    where = "another slide"
    if pair.apart_um is not None:
        where = f"{pair.apart_um:.0f} um apart"
    return f"{pair.mpp[1]:g} um/px, {where}: {pair.kind}"


def _picture(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image.resize((_CELL, _CELL), Image.Resampling.LANCZOS)
