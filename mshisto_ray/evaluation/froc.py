"""Detections against lesions or points: hits, and the free-response ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.spatial import KDTree
from shapely.geometry.base import BaseGeometry

from mshisto_ray.statistics.rank_metrics import weighted_ratio

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_NONE = -1


@dataclass(frozen=True)
class SlideHits:
    """The detections of a slide, N of them.

    ``scores``: [N]; ``target``: number of the lesion or point that each finds, [N], -1:
    a false positive; ``num_targets``: lesions or points of the slide; ``mm2``: area
    that was searched.
    """

    scores: np.ndarray
    target: np.ndarray
    num_targets: int
    mm2: float

    def counts(self, threshold: float) -> tuple[int, int]:
        """Targets found, and false positives, at this score or above."""
        used = self.scores >= threshold
        hit = self.target[used & (self.target >= 0)]
        return len(np.unique(hit)), int((used & (self.target == _NONE)).sum())


def match_lesions(
    x: np.ndarray, y: np.ndarray, lesions: Sequence[BaseGeometry], tolerance: float
) -> np.ndarray:
    """The lesion of each detection, [N]; -1: none within ``tolerance``.

    A detection in several takes the nearest, of equally near ones the first. Further
    detections of one lesion are neither hits nor false positives.
    """
    found = np.full(len(x), _NONE)
    if not len(lesions) or not len(x):
        return found
    points = np.asarray(shapely.points(x, y))
    distances = np.stack([shapely.distance(points, lesion) for lesion in lesions], 1)
    nearest = distances.argmin(1)
    within = distances.min(1) <= tolerance
    found[within] = nearest[within]
    return found


def match_points(
    x: np.ndarray,
    y: np.ndarray,
    scores: np.ndarray,
    truth: np.ndarray,
    tolerance: float,
) -> np.ndarray:
    """The true point [M, 2] of each detection, [N]; -1: none is left.

    From the highest score on, a detection takes the nearest point within ``tolerance``
    that is not taken yet. A second detection of one point is a false positive.
    """
    found = np.full(len(x), _NONE)
    if not len(truth) or not len(x):
        return found
    tree, taken = KDTree(truth), np.zeros(len(truth), bool)
    places = np.stack([x, y], 1)
    for i in np.argsort(-scores, kind="stable"):
        near = np.sort(tree.query_ball_point(places[i], tolerance)).astype(int)
        free = near[~taken[near]]
        if len(free):
            gap = np.linalg.norm(truth[free] - places[i], axis=1)
            found[i] = free[gap.argmin()]
            taken[found[i]] = True
    return found


class Froc:
    """The free-response ROC curve of some slides.

    Sensitivity, the share of lesions that some detection finds, against false positives
    per slide, over all thresholds. Source: Bunch et al. 1978.
    """

    def __init__(self, slides: Sequence[SlideHits]):
        scores, slide, is_hit = [], [], []
        for number, one in enumerate(slides):
            for target in np.unique(one.target[one.target >= 0]):
                scores.append(one.scores[one.target == target].max())
                is_hit.append(True)
                slide.append(number)
            wrong = one.scores[one.target == _NONE]
            scores += wrong.tolist()
            is_hit += [False] * len(wrong)
            slide += [number] * len(wrong)
        order = np.argsort(-np.array(scores, float), kind="stable")
        self._scores = np.array(scores, float)[order]
        self._slide = np.array(slide, np.int64)[order]
        self._is_hit = np.array(is_hit, bool)[order]
        # Detections of equal scores come together.
        self._ends = np.flatnonzero(np.diff(self._scores, append=-np.inf))
        self._targets = np.array([one.num_targets for one in slides], float)
        self._mm2 = np.array([one.mm2 for one in slides], float)

    @property
    def thresholds(self) -> np.ndarray:
        """Distinct scores, the highest first [T]."""
        return self._scores[self._ends]

    def curve(
        self, weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sensitivity, false positives per slide and per mm2 at each threshold, [T].

        Args:
            weights: how often each slide counts [S]; None: once.
        """
        weights = np.ones(len(self._targets)) if weights is None else weights
        each = weights[self._slide]
        hits, wrong = (
            (each * part).cumsum()[self._ends] for part in (self._is_hit, ~self._is_hit)
        )
        totals = weights @ self._targets, weights.sum(), weights @ self._mm2
        sensitivity, per_slide, per_mm2 = (
            weighted_ratio(part, np.asarray(total))
            for part, total in zip((hits, wrong, wrong), totals, strict=True)
        )
        return sensitivity, per_slide, per_mm2

    def sensitivities(
        self, weights: np.ndarray | None = None, rates: Sequence[float] = RATES
    ) -> np.ndarray:
        """The sensitivity reached with at most each number of false positives a slide.

        0 where every threshold has more; NaN without lesions.
        """
        sensitivity, per_slide, _ = self.curve(weights)
        if weights is None:
            weights = np.ones(len(self._targets))
        if not weights @ self._targets:
            return np.full(len(rates), np.nan)
        reached = np.searchsorted(per_slide, rates, side="right")
        return np.concatenate([[0.0], sensitivity])[reached]

    def score(self, weights: np.ndarray | None = None) -> float:
        """Mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives a slide.

        Source: CAMELYON16 (Ehteshami Bejnordi et al. 2017).
        """
        return float(self.sensitivities(weights).mean())
