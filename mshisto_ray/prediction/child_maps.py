"""Pictures and scores of the attention over finer tiles within coarse ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from mshisto_ray.drawing.child_map import CoarseTile, draw_child_maps
from mshisto_ray.prediction.tile_bag import SlideTiles
from mshisto_ray.slides import Slide
from mshisto_ray.store.embeddings import TileEmbeddings

_CHILD_MAPS = 6
_AREA_PX = 256


def child_maps(
    slide: Slide,
    part: SlideTiles,
    child_attention: Sequence[np.ndarray],
    attention: np.ndarray | None,
    title: str,
) -> Iterator[tuple[TileEmbeddings, dict[str, np.ndarray], Image.Image]]:
    """Yield the tiles of each finer scale that has any, their scores, and a picture.

    Scores: ``child_attention``, a tile's share within its parent; ``attention``, that
    share times the parent's attention, also the weight of a tile of a middle scale.
    """
    tiles = part.tiles
    for fine, linked, weights in zip(
        part.finer, part.children, child_attention, strict=True
    ):
        counts, scores = linked.counts, {"child_attention": weights}
        if attention is not None:
            scores["attention"] = attention.repeat(counts) * weights
        if len(weights):
            image = _child_map(slide, tiles, fine, counts, weights, attention, title)
            yield fine, scores, image
        tiles, attention = fine, scores.get("attention")


def _child_map(
    slide: Slide,
    tiles: TileEmbeddings,
    fine: TileEmbeddings,
    counts: np.ndarray,
    weights: np.ndarray,
    attention: np.ndarray | None,
    title: str,
) -> Image.Image:
    """Draw the most relevant tiles with the attention over their finer tiles.

    Those of highest attention; without attention, those whose children differ most.
    """
    starts = np.cumsum(counts) - counts
    spread = np.array(
        [
            np.ptp(weights[a : a + n]) if n else -1.0
            for a, n in zip(starts, counts, strict=True)
        ]
    )
    order = np.argsort(-(spread if attention is None else attention), kind="stable")
    chosen = [i for i in order if counts[i]][:_CHILD_MAPS]
    shown = []
    for i in chosen:
        own = slice(starts[i], starts[i] + counts[i])
        left = (fine.x[own] - tiles.x[i]) / tiles.extent[i]
        top = (fine.y[own] - tiles.y[i]) / tiles.extent[i]
        side = fine.extent[own] / tiles.extent[i]
        boxes = np.stack([left, top, left + side, top + side], 1).clip(0, 1)
        text = f"row {tiles.row[i]}, col {tiles.col[i]}"
        if attention is not None:
            text += f", attention {attention[i]:.3g}"
        pixels = read_area(
            slide, int(tiles.x[i]), int(tiles.y[i]), float(tiles.extent[i])
        )
        shown.append(CoarseTile(pixels, boxes, weights[own], text))
    return draw_child_maps(shown, f"{title}: attention over finer tiles")


def read_area(slide: Slide, x: int, y: int, extent: float) -> np.ndarray:
    """A square of the slide, from the coarsest level with enough pixels."""
    fits = [i for i, v in enumerate(slide.levels) if extent / v.downsample >= _AREA_PX]
    level = fits[-1] if fits else 0
    side = max(1, round(extent / slide.levels[level].downsample))
    return slide.read(level, x, y, side, side)
