"""A tile and one of its finer tiles as a positive pair; other classes as negatives."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from mshisto_ray.config import InputError
from mshisto_ray.contrastive.pairs import _discs, _relations
from mshisto_ray.contrastive.pairs._finer import with_finer
from mshisto_ray.contrastive.pairs._relations import Neutral, Rules, SameSlide
from mshisto_ray.training.draws import choose, uniforms
from mshisto_ray.training.tile_index import UNKNOWN, TileIndex

COMPARES_CLASSES = True


class MultiScalePairs:
    """Pairs (main tile, one of its finer tiles); all of a batch at the same two scales.

    Places come in groups of ``places_per_slide`` from one slide, near each other if
    near places are alike (``same_slide: by_distance`` with ``near_um``), else anywhere.
    With classes, places take each class that has tiles in turn, so that a batch holds
    all of them at the main scale and every anchor has negatives.

    Source: Tan et al. 2023, section 3.2.
    """

    def __init__(
        self,
        index: TileIndex,
        places_per_slide: int,
        slides_per_batch: int | None,
        scales: tuple[float, float] | None,
        rules: Rules,
    ):
        if len(index.scales) < 2:
            have = ", ".join(f"{scale:g}" for scale in index.scales)
            raise InputError(
                f"pairs: multi_scale needs tiles at two scales; there is only {have} "
                "um/px"
            )
        self._index = index
        self._places_per_slide = places_per_slide
        self._slides_per_batch = slides_per_batch
        self._rules = rules
        self._coarse = self._coarse_scales(scales)
        if rules.same_slide == "by_distance":
            pitch = float(index.pitch_um[:, self._coarse].max(initial=0))
            _check_near(rules, places_per_slide, pitch)
        known = np.unique(index.label[index.label != UNKNOWN])
        self._classes = known if len(known) else np.array([UNKNOWN])
        # Whether far tiles are the only negatives; slides without any are left out.
        self._needs_far = (
            len(self._classes) == 1
            and rules.same_slide == "by_distance"
            and rules.neutral != "negative"
        )
        # With classes, slides without one are left out.
        self._slides = {
            (coarse, group): self._slides_of(coarse, cls)
            for coarse in self._coarse
            for group, cls in enumerate(self._classes)
        }
        # A part of the cohort may have no slide with tiles at one of these scales.
        held = [c for c in self._coarse if any(map(len, self._at(c)))]
        self._coarse = np.array(held, self._coarse.dtype)

    def draw(self, seed: int, step: int, pairs: np.ndarray) -> np.ndarray:
        """Tiles [P, 2]: main and finer; (main, main) if it has no finer tile."""
        if not len(self._coarse):
            tiles = uniforms(seed, "pairs", step, int(pairs.max()) + 1, 2)[pairs, 0]
            main = choose(tiles, np.full(len(pairs), len(self._index)))
            return np.stack([main, main], axis=1)
        last = int(pairs.max()) + 1
        pick = uniforms(seed, "scale", step, 1, 1)[0]
        coarse = int(self._coarse[choose(pick, np.array([len(self._coarse)]))[0]])
        group = pairs % len(self._classes)
        visit = (pairs // len(self._classes)) // self._places_per_slide
        # All places of a visit share the slide, drawn from the visit's own number.
        turn = visit % self._slides_per_batch if self._slides_per_batch else visit
        number = turn * len(self._classes) + group
        uniform = uniforms(seed, "slides", step, last, 1)[number, 0]
        first = visit * self._places_per_slide * len(self._classes) + group
        slide = np.full(len(pairs), -1)
        for g in range(len(self._classes)):
            at, slides = np.flatnonzero(group == g), self._slides[coarse, g]
            if not len(slides):  # a part of the cohort without this class
                slides = np.concatenate(self._at(coarse))
            counts = np.full(len(at), len(slides))
            slide[at] = slides[choose(uniform[at], counts)]
        uniform = uniforms(seed, "pairs", step, last, 2)
        layer = slide * len(self._index.scales) + coarse
        size = self._index.sizes()[layer]
        main = self._index.starts[layer] + choose(uniform[pairs, 0], size)
        if self._rules.same_slide == "by_distance" and self._rules.near_um:
            anchor = self._index.starts[layer] + choose(uniform[first, 0], size)
            near = self._near(anchor, self._rules.near_um, uniform[pairs, 0])
            main = np.where(pairs == first, main, near)
        return with_finer(self._index, main, coarse, uniform[pairs, 1])

    def relations(
        self, tiles: np.ndarray, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Relations of all tiles of the batch, whichever pair they belong to."""
        return _relations.relate(self._index, tiles.reshape(-1), self._rules)

    def check(self, num_pairs: int) -> None:
        """Refuse labels and batches that leave anchors without negatives."""
        num = len(self._classes)
        if num == 1 and self._rules.neutral != "negative":
            self._check_one_class(num_pairs)
        if num_pairs < num:
            raise InputError(
                f"batch_size: {2 * num_pairs} images hold {num_pairs} places, fewer "
                f"than the {num} classes: raise it to {2 * num} or more"
            )
        for (coarse, group), slides in self._slides.items():
            if not len(slides) and not self._needs_far:
                raise InputError(
                    f"pairs: class number {self._classes[group]} has no tile at "
                    f"{self._index.scales[coarse]:g} um/px: lower the tiles' "
                    "tissue_threshold, or choose other scales"
                )

    def _check_one_class(self, num_pairs: int) -> None:
        """Refuse rules under which one class alone has no negatives."""
        rule = self._rules.same_slide
        if rule not in ("negative", "by_distance"):
            what = (
                "one class only" if self._classes[0] != UNKNOWN else "no class labels"
            )
            raise InputError(
                f"pairs: {what}, so there are no negatives: give labels of two or more "
                "classes, or set neutral: negative"
            )
        if not len(self._coarse):
            far = f" {self._rules.far_um:g} um apart" if self._needs_far else ""
            raise InputError(
                f"pairs: no slide has tiles at two scales{far}, so there are no "
                "negatives: lower far_um or the tiles' tissue_threshold, or set "
                "neutral: negative"
            )
        visits = math.ceil(num_pairs / self._places_per_slide)
        slides = min(len(self._slides[coarse, 0]) for coarse in self._coarse)
        slides = min(self._slides_per_batch or visits, slides)
        # Places of one visit are no negatives where they are near each other.
        alike = self._needs_far and self._rules.near_um
        if (visits if alike else num_pairs) < 2 * slides:
            raise InputError(
                "pairs: negatives are tiles of one slide, and a batch visits "
                f"{slides} slides in {visits} visits: set slides_per_batch to 1 or a "
                "few, change places_per_slide, or raise batch_size"
            )

    def _coarse_scales(self, scales: tuple[float, float] | None) -> np.ndarray:
        if scales is None:
            return np.arange(1, len(self._index.scales))
        fine, coarse = sorted(self._index.scale_number(mpp) for mpp in scales)
        if coarse != fine + 1:
            raise InputError(
                f"pairs: scales {scales[0]:g} and {scales[1]:g} are not neighbours "
                "among the tiles' scales"
            )
        return np.array([coarse])

    def _at(self, coarse: int) -> list[np.ndarray]:
        """Slides with tiles at a scale, by class."""
        return [self._slides[coarse, group] for group in range(len(self._classes))]

    def _slides_of(self, scale: int, cls: int) -> np.ndarray:
        layers = self._index.layers_at(scale)
        held = self._index.sizes()[layers] > 0
        found = np.flatnonzero(held & (self._index.label == cls))
        if not self._needs_far:
            return found
        far_um, index = self._rules.far_um, self._index
        keep = [_discs.spans(index, int(layer), far_um) for layer in layers[found]]
        return found[np.array(keep, bool)]

    def _near(
        self, anchor: np.ndarray, near_um: float, uniform: np.ndarray
    ) -> np.ndarray:
        """A tile near each anchor, the anchor itself where there is none."""
        found = _discs.draw_near(self._index, anchor, near_um, "euclidean", uniform)
        return np.where(found < 0, anchor, found)


def _check_near(rules: Rules, places_per_slide: int, pitch: float) -> None:
    """Refuse thresholds that cross, and visits whose places would all be one tile.

    ``pitch``: side of the coarsest tiles in micrometres.
    """
    if rules.near_um and rules.far_um <= rules.near_um:
        raise InputError("pairs: far_um must be above near_um")
    if rules.near_um and places_per_slide > 1 and rules.near_um < pitch * (1 - 1e-9):
        raise InputError(
            f"pairs: places_per_slide={places_per_slide} needs places near each "
            f"other, and no other tile lies within near_um={rules.near_um:g} of one "
            f"whose side is {pitch:.1f} um: set places_per_slide to 1, near_um to "
            f"{math.ceil(pitch)} or more, or near_um to null"
        )


def build(
    index: TileIndex,
    *,
    places_per_slide: Annotated[int, Field(ge=1)] = 2,
    slides_per_batch: Annotated[int, Field(ge=1)] | None = None,
    scales: tuple[float, float] | None = None,
    same_slide: SameSlide = "positive",
    neutral: Neutral = "ignore",
    near_um: Annotated[float, Field(gt=0)] | None = None,
    far_um: Annotated[float, Field(gt=0)] = 9145.0,
) -> MultiScalePairs:
    """Pairs of one place at two neighbouring scales.

    Args:
        index: the tiles.
        places_per_slide: places drawn from a slide each time it is visited.
        slides_per_batch: of each class, visited in turns; the fewer, the more places
            of one slide a batch compares, which stain cannot distinguish. By default
            every visit draws its slide independently.
        scales: the two mpp; by default each step draws one of all neighbouring pairs.
        same_slide: relation of tiles of one slide and scale at other places;
            ``by_distance`` applies to all scales. Where far tiles are the only
            negatives, slides (or parts in memory) without any are left out.
        neutral: relation of pairs that the paper does not mention.
        near_um: with ``same_slide: by_distance``, largest distance of places that are
            positive; null: only tiles of one place are.
        far_um: with ``same_slide: by_distance``, smallest distance of negative places.
    """
    rules = Rules(same_slide, neutral, near_um, far_um)
    return MultiScalePairs(index, places_per_slide, slides_per_batch, scales, rules)
