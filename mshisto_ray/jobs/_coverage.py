"""How much of the tissue lies inside tiles: words for the console, means to log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# Below this share the tissue that is left out may hold what decides.
LEAST_COVERAGE = 0.7
_MOST_NAMED = 5


def coverage_by_scale(
    slides: Iterable[Mapping[str, Any]],
) -> dict[float, dict[str, float]]:
    """Coverage of each slide that records it, by scale: ``{mpp: {slide_id: share}}``.

    Args:
        slides: rows of ``slides.parquet``.
    """
    found: dict[float, dict[str, float]] = {}
    for slide in slides:
        for mpp, share in slide["coverage"] or ():
            found.setdefault(mpp, {})[slide["slide_id"]] = share
    return dict(sorted(found.items()))


def coverage_notes(
    coverage: Mapping[float, Mapping[str, float]], threshold: float
) -> list[str]:
    """The mean and the least coverage, and a warning of each scale with little.

    Args:
        coverage: as ``coverage_by_scale`` returns it.
        threshold: the recipe's ``tissue_threshold``.
    """
    shares = {mpp: list(of.values()) for mpp, of in coverage.items()}
    if not shares:
        return []
    words = ", ".join(
        f"{np.mean(of):.0%} (least {min(of):.0%}) at {mpp:g}"
        for mpp, of in shares.items()
    )
    notes = [f"share of the tissue inside tiles, mean over slides: {words} um/px"]
    return notes + [
        _warning(mpp, low, len(shares[mpp]), threshold)
        for mpp, of in coverage.items()
        if (low := sorted((v, k) for k, v in of.items() if v < LEAST_COVERAGE))
    ]


def _warning(
    mpp: float, low: Sequence[tuple[float, str]], num: int, threshold: float
) -> str:
    named = ", ".join(f"{name} {share:.0%}" for share, name in low[:_MOST_NAMED])
    more = ", ..." if len(low) > _MOST_NAMED else ""
    return (
        f"warning: at {mpp:g} um/px tiles hold less than {LEAST_COVERAGE:.0%} of the "
        f"tissue in {len(low)} of {num} slides ({named}{more}): lower tissue_threshold "
        f"({threshold:g}) and tile into another out, or leave the scale out"
    )
