"""Near and far tiles of a slide as positive and negative pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mshisto_ray.config import InputError
from mshisto_ray.contrastive.pairs import _discs
from mshisto_ray.contrastive.pairs._source import drawn_pairs
from mshisto_ray.training.draws import choose, uniforms
from mshisto_ray.training.tile_index import TileIndex

VERIFIABLE = True
# Anchors tried before a pair counts as missing.
_TRIES = 8


@dataclass(frozen=True)
class Distances:
    """Centres up to ``near_um`` apart make a near pair, from ``far_um`` on a far one.

    ``metric``: of the distance.
    """

    near_um: float
    far_um: float
    metric: _discs.Metric

    def __post_init__(self):
        if self.far_um <= self.near_um:
            raise InputError(
                f"pairs: far_um={self.far_um:g} must be above near_um={self.near_um:g}"
            )


class SpatialPairs:
    """Pairs of one scale within a slide, labelled by the distance of their centres.

    Anchors are uniform over the tiles given (in training, those of a block in memory),
    partners uniform over those near to (or far from) their anchor; the tile itself is
    never its partner, and other tiles of one grid never overlap it.

    Source: Gildenblat and Klaiman 2019, section 3.1; the paper's 1792 px and 9408 px
    at Camelyon16's 0.972 um/px are the defaults.
    """

    def __init__(
        self,
        index: TileIndex,
        distances: Distances,
        far_share: float,
        far_fallback: Literal["skip", "other_slide", "error"],
        in_batch: bool,
        other_slides: Literal["ignore", "negative"],
        mpp: float | None,
    ):
        scale = None if mpp is None else index.scale_number(mpp)
        self._index = index
        self._near_um, self._far_um = distances.near_um, distances.far_um
        self._metric: _discs.Metric = distances.metric
        self._far_share, self._far_fallback = far_share, far_fallback
        self._in_batch, self._other_slides = in_batch, other_slides
        self._layers = index.layers_at(scale)
        self._ends = index.sizes()[self._layers].cumsum()

    def draw(self, seed: int, step: int, pairs: np.ndarray) -> np.ndarray:
        """Tiles [P, 2] of pairs [P]; a pair without partner is (anchor, anchor)."""
        uniform = uniforms(seed, "pairs", step, int(pairs.max()) + 1, _TRIES + 1)
        uniform, is_far = uniform[pairs], self._is_far(pairs)
        if not self._ends[-1]:  # a part of the cohort without tiles at this scale
            any_tile = choose(uniform[:, 0], np.full(len(pairs), len(self._index)))
            return np.stack([any_tile, any_tile], axis=1)
        found = np.full((len(pairs), 2), -1)
        open_pairs = np.arange(len(pairs))
        for attempt in range(_TRIES):
            anchors = self._anchors(uniform[open_pairs, attempt])
            last = uniform[open_pairs, _TRIES]
            partners = self._partners(anchors, is_far[open_pairs], last)
            found[open_pairs, 0] = anchors
            found[open_pairs, 1] = np.where(partners < 0, anchors, partners)
            open_pairs = open_pairs[partners < 0]
            if not len(open_pairs):
                break
        return found

    def relations(
        self, tiles: np.ndarray, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Relations of the drawn pairs, or (``in_batch``) of all near and far pairs."""
        is_far = self._is_far(pairs)
        has_partner = tiles[:, 0] != tiles[:, 1]
        near, far = (
            drawn_pairs(~is_far & has_partner),
            drawn_pairs(is_far & has_partner),
        )
        if not self._in_batch:
            return near, far
        everywhere = self.all_relations(tiles.reshape(-1))
        return near | everywhere[0], far | everywhere[1]

    def all_relations(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Near and far pairs of all tiles [M] by position, bool [M, M] each."""
        index = self._index
        layer, centre = index.layer(tiles), index.centre_um(tiles)
        delta = abs(centre[:, None] - centre)
        if self._metric == "chebyshev":
            distance = delta.max(axis=2)
        else:
            distance = np.hypot(delta[..., 0], delta[..., 1])
        together = layer[:, None] == layer
        near = together & (distance <= self._near_um * (1 + 1e-9))
        near &= tiles[:, None] != tiles
        far = together & (distance >= self._far_um * (1 - 1e-9))
        if self._other_slides == "negative":
            # Another slide of the patient may well show the same tissue.
            patient = index.patient[index.slide(tiles)]
            scale = index.scale(tiles)
            far |= (patient[:, None] != patient) & (scale[:, None] == scale)
        return near, far

    def check(self, num_pairs: int) -> None:
        """Refuse slides on which no pair of a wanted kind exists.

        Raises:
            InputError: no near or no far pair, or, with ``far_fallback: error``, a
                tile without far partner.
        """
        near, far, _, total = self.count_missing()
        if near == total and self._far_share < 1:
            held = self._layers[self._index.sizes()[self._layers] > 0]
            pitch = self._index.pitch_um.reshape(-1)[held].min(initial=np.inf)
            raise InputError(
                f"pairs: near_um={self._near_um:g} is below the distance between "
                f"tiles ({pitch:g} um or more): raise near_um"
            )
        if not self._far_share or not far:
            return
        if self._far_fallback == "error" or (
            far == total and self._far_fallback == "skip"
        ):
            raise InputError(
                f"pairs: {far} of {total} tiles have no other tile {self._far_um:g} um "
                "away on their slide: lower far_um, or set far_fallback: other_slide"
            )

    def notes(self) -> list[str]:
        """A line: how many tiles have no near or no far partner."""
        near, far, _, total = self.count_missing()
        return [
            f"of {total:,} tiles {near:,} have no near partner and {far:,} no far one "
            "on their slide"
        ]

    def count_missing(self) -> tuple[int, int, int, int]:
        """Count tiles that lack a near partner, a far one, either; and all tiles."""
        index, lonely, lost, either, total = self._index, 0, 0, 0, 0
        for layer in self._layers.tolist():
            tiles = np.arange(int(index.starts[layer]), int(index.starts[layer + 1]))
            total += len(tiles)
            alone = tiles
            # Nearly all have a neighbour next to them: look there first.
            close = 1.5 * float(index.pitch_um.reshape(-1)[layer])
            for limit in (min(self._near_um, close), self._near_um):
                counts = _discs.near_counts(index, alone, limit, self._metric)
                alone = alone[counts == 0]
            lonely += len(alone)
            reach = _discs.reach_um(index, layer, self._metric)
            lacks_far = reach < self._far_um * (1 - 1e-9)
            lost += int(lacks_far.sum())
            either += int(np.union1d(tiles[lacks_far], alone).size)
        return lonely, lost, either, total

    def _is_far(self, pairs: np.ndarray) -> np.ndarray:
        """Whether each pair is far: ``far_share`` of any run of pairs."""
        share = self._far_share
        return np.floor((pairs + 1) * share) > np.floor(pairs * share)

    def _anchors(self, uniform: np.ndarray) -> np.ndarray:
        """Tiles uniform over the wanted layers."""
        total = np.full(len(uniform), self._ends[-1])
        place = choose(uniform, total)
        layer = np.searchsorted(self._ends, place, side="right")
        before = self._ends[layer] - self._index.sizes()[self._layers[layer]]
        return self._index.starts[self._layers[layer]] + place - before

    def _partners(
        self, anchors: np.ndarray, is_far: np.ndarray, uniform: np.ndarray
    ) -> np.ndarray:
        found = np.full(len(anchors), -1)
        near, far = np.flatnonzero(~is_far), np.flatnonzero(is_far)
        found[near] = _discs.draw_near(
            self._index, anchors[near], self._near_um, self._metric, uniform[near]
        )
        found[far] = _discs.draw_far(
            self._index, anchors[far], self._far_um, self._metric, uniform[far]
        )
        if self._far_fallback == "other_slide":
            lost = far[found[far] < 0]
            found[lost] = self._elsewhere(anchors[lost], uniform[lost])
        return found

    def _elsewhere(self, anchors: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Tiles of the same scale on slides of other patients, or -1."""
        index = self._index
        found = np.full(len(anchors), -1)
        # Slides patient by patient, so that those of one are a range to skip.
        order = np.argsort(index.patient, kind="stable")
        patient = index.patient[order]
        for scale in np.unique(index.scale(anchors)):
            layers = index.layers_at(int(scale))[order]
            ends = np.append(0, index.sizes()[layers].cumsum())
            at = np.flatnonzero(index.scale(anchors) == scale)
            own = index.patient[index.slide(anchors[at])]
            first = ends[np.searchsorted(patient, own)]
            gap = ends[np.searchsorted(patient, own, side="right")] - first
            counts = ends[-1] - gap
            place = choose(uniform[at], counts)
            place += np.where(place >= first, gap, 0)
            layer = np.searchsorted(ends, place, side="right").clip(max=len(layers)) - 1
            tile = index.starts[layers[layer]] + place - ends[layer]
            found[at] = np.where(counts > 0, tile, -1)
        return found


def build(
    index: TileIndex,
    *,
    near_um: Annotated[float, Field(gt=0)] = 1742.0,
    far_um: Annotated[float, Field(gt=0)] = 9145.0,
    metric: _discs.Metric = "euclidean",
    far_share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    far_fallback: Literal["skip", "other_slide", "error"] = "skip",
    in_batch: bool = False,
    other_slides: Literal["ignore", "negative"] = "ignore",
    mpp: float | None = None,
) -> SpatialPairs:
    """Near and far pairs.

    Args:
        index: the tiles.
        near_um: centres at most so far apart make a positive pair.
        far_um: centres at least so far apart make a negative pair.
        metric: of the distance.
        far_share: share of far pairs among the drawn ones.
        far_fallback: for a tile without far partner: draw another anchor, take a tile
            of another patient's slide, or raise an error.
        in_batch: every near and every far pair of the batch counts, not only those
            drawn.
        other_slides: with ``in_batch``, whether tiles of other patients are negative.
        mpp: scale of the tiles; all scales if not given.
    """
    distances = Distances(near_um, far_um, metric)
    return SpatialPairs(
        index, distances, far_share, far_fallback, in_batch, other_slides, mpp
    )
