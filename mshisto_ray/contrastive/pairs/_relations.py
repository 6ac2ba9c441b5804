"""Which tiles of a multi-scale batch are positive, negative or neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mshisto_ray.training.tile_index import UNKNOWN, TileIndex

SameSlide = Literal["positive", "negative", "ignore", "by_distance"]
Neutral = Literal["ignore", "by_class", "negative"]


@dataclass(frozen=True)
class Rules:
    """Options of the relations.

    Attributes:
        same_slide: tiles of one slide and scale at different places; ``by_distance``:
            positive up to ``near_um``, negative from ``far_um``, ignored between, also
            at different scales.
        neutral: pairs that are neither: ignored, by class (the same: positive, another:
            negative), or negative unless they are of one patient.
        near_um: with ``by_distance``; None: no other place is positive.
        far_um: with ``by_distance``.
    """

    same_slide: SameSlide
    neutral: Neutral
    near_um: float | None
    far_um: float


def relate(
    index: TileIndex, tiles: np.ndarray, rules: Rules
) -> tuple[np.ndarray, np.ndarray]:
    """The positive and negative pairs of tiles [M], bool [M, M] each.

    In this order: a tile with itself is ignored; tiles of which one covers the other
    are positive if their scales are neighbours, else ignored; other tiles of one slide
    and scale (of any scale ``by_distance``) follow ``same_slide``; tiles of different
    known classes at one scale are negative; everything else follows ``neutral``.

    Source: Tan et al. 2023, section 3.2 (``same_slide`` positive; pairs that the paper
    does not mention are ``neutral``). The paper names a main tile's negatives at its
    scale; here every tile of the batch is an anchor, the finer ones too.
    """
    slide, scale = index.slide(tiles), index.scale(tiles)
    same_slide, same_scale = slide[:, None] == slide, scale[:, None] == scale
    apart = abs(scale[:, None] - scale)
    patient, label = index.patient[slide], index.label[slide]
    known = (label != UNKNOWN)[:, None] & (label != UNKNOWN)
    same_class = known & (label[:, None] == label)
    other_class = known & ~same_class
    covers = same_slide & _covers(index, tiles)

    positive = covers & (apart == 1)
    elsewhere = same_slide & ~covers
    if rules.same_slide != "by_distance":  # distance is compared across scales too
        elsewhere &= same_scale
    near, far = _elsewhere(index, tiles, elsewhere, rules)
    positive |= near
    negative = far | (other_class & same_scale & ~same_slide)

    rest = ~(covers | elsewhere | (other_class & same_scale & ~same_slide))
    if rules.neutral == "by_class":
        positive |= rest & same_class
        negative |= rest & other_class
    elif rules.neutral == "negative":
        negative |= rest & (same_slide | (patient[:, None] != patient))
    return positive, negative


def _elsewhere(
    index: TileIndex, tiles: np.ndarray, elsewhere: np.ndarray, rules: Rules
) -> tuple[np.ndarray, np.ndarray]:
    """The positive and negative pairs among those ``elsewhere`` on one slide."""
    none = np.zeros_like(elsewhere)
    if rules.same_slide == "positive":
        return elsewhere, none
    if rules.same_slide == "negative":
        return none, elsewhere
    if rules.same_slide == "ignore":
        return none, none
    centre = index.centre_um(tiles)
    delta = centre[:, None] - centre
    distance = np.hypot(delta[..., 0], delta[..., 1])
    near = none
    if rules.near_um:
        near = elsewhere & (distance <= rules.near_um * (1 + 1e-9))
    return near, elsewhere & (distance >= rules.far_um * (1 - 1e-9))


def _covers(index: TileIndex, tiles: np.ndarray) -> np.ndarray:
    """Whether one of two tiles covers the other, as if all were of one slide."""
    scale = index.scale(tiles)
    fold = np.array([round(s / index.scales[0]) for s in index.scales])[scale]
    coarser = np.maximum(fold[:, None], fold)
    found = np.ones((len(tiles), len(tiles)), bool)
    for place in (index.row(tiles), index.col(tiles)):
        # Both places on the coarser of the two grids; scales form a chain.
        found &= (place * fold)[:, None] // coarser == (place * fold)[None] // coarser
    return found
