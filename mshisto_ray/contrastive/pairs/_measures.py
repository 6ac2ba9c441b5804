"""Pairs that something is measured on, whatever a training draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mshisto_ray.contrastive.pairs import multi_scale, spatial
from mshisto_ray.contrastive.pairs.multi_scale import MultiScalePairs
from mshisto_ray.contrastive.pairs.spatial import SpatialPairs
from mshisto_ray.training.tile_index import UNKNOWN, TileIndex


def near_far_pairs(
    index: TileIndex, near_um: float, far_um: float, mpp: float | None = None
) -> SpatialPairs:
    """Near pairs at even and far pairs at odd places, of one scale or of all."""
    return spatial.build(index, near_um=near_um, far_um=far_um, mpp=mpp)


def finer_pairs(index: TileIndex, scales: tuple[float, float]) -> MultiScalePairs:
    """A tile and one of its finer tiles at two scales, whatever their classes."""
    plain = replace(index, label=np.full(len(index.label), UNKNOWN))
    return multi_scale.build(
        plain, scales=scales, neutral="negative", places_per_slide=1
    )
