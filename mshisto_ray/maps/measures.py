"""Found regions and points against the truth, slide by slide and over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.evaluation.froc import RATES, Froc, SlideHits
from mshisto_ray.statistics.bootstrap import ClusterDraws, Interval, percentile_interval
from mshisto_ray.statistics.rank_metrics import weighted_ratio


@dataclass(frozen=True)
class SlideMeasure:
    """One class on one slide.

    ``area``: mm2 found, annotated, and both, None without an annotation; ``hits``: of
    lesions or points, None where neither is known.
    """

    slide_id: str
    patient_id: str
    name: str
    mpp: float
    mapped_mm2: float
    found_mm2: float
    area: tuple[float, float, float] | None
    hits: SlideHits | None


def summarise(
    slides: Sequence[SlideMeasure], threshold: float, of_points: bool
) -> dict[str, Interval]:
    """Values of one class over slides, with 95 % patient-bootstrap intervals.

    ``dice``, ``iou``: of the areas of all slides together; ``sensitivity``,
    ``fp_per_slide``, ``fp_per_mm2``: of detections of at least ``threshold``;
    ``froc``: mean sensitivity at 1/4 to 8 false positives a slide, and
    ``sensitivity_at_<rate>`` each; of points also ``precision`` and ``f1``.

    Args:
        slides: of one class.
        threshold: of points.
        of_points: whether the truth are points, each of which is found once.
    """
    found: dict[str, Interval] = {}
    regions = [slide for slide in slides if slide.area is not None]
    if regions:
        a, b, both = np.array([slide.area for slide in regions], float).T
        draws = _draws(regions)
        found["dice"] = _ratio(draws, 2 * both, a + b)
        found["iou"] = _ratio(draws, both, a + b - both)
    searched = [slide for slide in slides if slide.hits is not None]
    if not searched:
        return found
    hits = [slide.hits for slide in searched if slide.hits is not None]
    draws = _draws(searched)
    targets = np.array([one.num_targets for one in hits], float)
    area = np.array([one.mm2 for one in hits])
    right, wrong = np.array([one.counts(threshold) for one in hits], float).T
    found["sensitivity"] = _ratio(draws, right, targets)
    found["fp_per_slide"] = _ratio(draws, wrong, np.ones(len(hits)))
    found["fp_per_mm2"] = _ratio(draws, wrong, area)
    if of_points:
        found["precision"] = _ratio(draws, right, right + wrong)
        found["f1"] = _ratio(draws, 2 * right, targets + right + wrong)
    return found | _froc(Froc(hits), draws)


def _froc(froc: Froc, draws: ClusterDraws) -> dict[str, Interval]:
    own = froc.sensitivities()
    drawn = [froc.sensitivities(w) for part in draws.weights() for w in part]
    replicates = np.array(drawn).reshape(-1, len(RATES))
    found = {"froc": percentile_interval(float(own.mean()), replicates.mean(1))}
    for rate, value, column in zip(RATES, own, replicates.T, strict=True):
        key = f"sensitivity_at_{rate:g}"
        found[key] = percentile_interval(float(value), column)
    return found


def _draws(slides: Sequence[SlideMeasure]) -> ClusterDraws:
    return ClusterDraws(np.array([slide.patient_id for slide in slides]))


def _ratio(draws: ClusterDraws, top: np.ndarray, bottom: np.ndarray) -> Interval:
    """Ratio of two sums over slides."""
    value = float(weighted_ratio(top.sum(), bottom.sum()))
    above, below = draws.means(np.stack([top, bottom], 1)).T
    return percentile_interval(value, weighted_ratio(above, below))
