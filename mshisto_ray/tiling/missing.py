"""Tiles of tissue whose pixels the slide's file does not hold.

Files leave out what was not scanned, and faulty ones what was. On glass that is
harmless, as OpenSlide shows it clear and a tile has it white; in tissue such a tile
would be embedded as if it were glass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from mshisto_ray.slides import Slide, SlideError, gaps_of, read_held
from mshisto_ray.store.failures import Failure
from mshisto_ray.tiling.grid import ScalePlan
from mshisto_ray.tiling.resolution import ScaleReading
from mshisto_ray.tiling.thumbnail import Thumbnail

# Missing tissue of a tile below this share is the rounding of edges to pixels.
_LEAST_SHARE = 0.001
# Pixels of the thumbnail around a missing area that show what it lies in.
_RING_PX = 2


def enclosed_by(missing: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Missing areas most of whose surroundings are tissue, bool [h, w].

    They may hold tissue, as unreadable areas may. The unscanned plane around a scan,
    which reaches the end of the slide, does not, be the scan all tissue.
    """
    found: Any = ndimage.label(missing, structure=np.ones((3, 3)))
    labels, num = found
    padded = np.pad(labels, _RING_PX)
    near = ndimage.grey_dilation(padded, size=2 * _RING_PX + 1)
    ring = (padded == 0) & (near > 0)
    is_tissue = np.pad(tissue, _RING_PX)[ring]
    around = np.bincount(near[ring], minlength=num + 1)
    held = np.bincount(near[ring], is_tissue, minlength=num + 1)
    inside = held > around / 2
    rim = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    inside[np.unique(np.concatenate(rim))] = False
    inside[0] = False
    return inside[labels]


def without_missing(
    slide_id: str,
    slide: Slide,
    plans: Sequence[ScalePlan],
    focus: Sequence[np.ndarray],
    tissue: np.ndarray,
    thumbnail: Thumbnail,
) -> tuple[list[ScalePlan], list[np.ndarray], list[Failure]]:
    """Plans without the tiles whose tissue the file lacks, and these as failures.

    Args:
        slide_id: the slide's name, for failures.
        slide: open slide.
        plans: its tiles, finest scale first.
        focus: their sharpness, [tiles] per plan.
        tissue: bool [h, w] over the thumbnail.
        thumbnail: of the slide.

    Raises:
        SlideError: no tile with enough tissue is left.
    """
    lost = [_lost(slide, plan, tissue, thumbnail) for plan in plans]
    if not any(shares.any() for shares in lost):
        return list(plans), list(focus), []
    failures = [
        _failure(slide_id, plan, int(i), shares[i])
        for plan, shares in zip(plans, lost, strict=True)
        for i in np.flatnonzero(shares)
    ]
    kept = [_select(plan, s == 0) for plan, s in zip(plans, lost, strict=True)]
    if not any(plan.own.any() for plan in kept):
        raise SlideError("MissingPixels", failures[0].message)
    # Chunks are numbered without a gap: they are row groups.
    chunks = np.unique(np.concatenate([plan.chunk for plan in kept]))
    numbered = [
        replace(plan, chunk=np.searchsorted(chunks, plan.chunk).astype(np.int32))
        for plan in kept
    ]
    left = [score[s == 0] for score, s in zip(focus, lost, strict=True)]
    return numbered, left, failures


def _lost(
    slide: Slide, plan: ScalePlan, tissue: np.ndarray, thumbnail: Thumbnail
) -> np.ndarray:
    """Share of each tile that is tissue and missing, 0 where negligible; [tiles].

    Only tiles where the thumbnail or the file's list of native tiles has something
    missing are read.
    """
    shares = np.zeros(len(plan.row))
    suspect = _suspect(slide, plan.reading.level, thumbnail) & tissue
    if not suspect.any():
        return shares
    side = plan.reading.extent / thumbnail.span
    for i, (x, y) in enumerate(zip(plan.x.tolist(), plan.y.tolist(), strict=True)):
        left, top = x / thumbnail.span, y / thumbnail.span
        rows = slice(math.floor(top), math.ceil(top + side))
        cols = slice(math.floor(left), math.ceil(left + side))
        if suspect[rows, cols].any():
            shares[i] = _share(slide, plan.reading, x, y, tissue, thumbnail.span)
    return np.where(shares > _LEAST_SHARE, shares, 0)


def _suspect(slide: Slide, level: int, thumbnail: Thumbnail) -> np.ndarray:
    """Where pixels of a level may be missing, bool [h, w] over the thumbnail."""
    found = thumbnail.lacking.copy()
    for box in gaps_of(slide, level) / thumbnail.span:
        left, top = np.floor(box[:2]).astype(int)
        right, bottom = np.ceil(box[2:]).astype(int)
        found[top:bottom, left:right] = True
    return found


def _share(
    slide: Slide,
    reading: ScaleReading,
    x: int,
    y: int,
    tissue: np.ndarray,
    span: float,
) -> float:
    """Share of the tile at x, y that is tissue and missing, from its own pixels."""
    down = slide.levels[reading.level].downsample
    side = max(1, round(reading.extent / down))
    try:
        held = read_held(slide, reading.level, x, y, side, side)[1]
    except SlideError:
        return 0.0  # reported when the tile is read
    if held is None:
        return 0.0
    centres = (np.arange(side) + 0.5) * down
    row = np.minimum(((y + centres) / span).astype(int), tissue.shape[0] - 1)
    col = np.minimum(((x + centres) / span).astype(int), tissue.shape[1] - 1)
    return float((tissue[np.ix_(row, col)] & ~held).mean())


def _select(plan: ScalePlan, kept: np.ndarray) -> ScalePlan:
    names = ("row", "col", "x", "y", "tissue", "own", "chunk")
    return replace(plan, **{name: getattr(plan, name)[kept] for name in names})


def _failure(slide_id: str, plan: ScalePlan, i: int, share: float) -> Failure:
    message = (
        f"the file holds no pixels for {share:.1%} of this tile, in tissue: export or "
        "copy the slide again and run with runtime.retry_failures=true"
    )
    place = {"row": int(plan.row[i]), "col": int(plan.col[i])}
    mpp = plan.reading.mpp
    return Failure(
        slide_id, "tile", "input", "MissingPixels", message, mpp=mpp, **place
    )
