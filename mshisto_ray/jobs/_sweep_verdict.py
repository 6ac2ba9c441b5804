"""What a sweep's run of a config says of it beside the chosen one."""

from __future__ import annotations

import math

from mshisto_ray.decision.examination import Examination
from mshisto_ray.jobs._experiment_run import readable
from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.learning.sweep.results import PointResult
from mshisto_ray.reporting.sweep_tables import told_apart

RANK, DIFFERENCE, P = "rank", "diff_to_chosen", "p_difference"
_DOUBT = ", hardly trained"


def standing(found: Comparison | None, chosen: bool, place: int) -> dict[str, float]:
    """A config's place, its test metric less that of the chosen one, p after Holm.

    MLflow sorts by numbers alone, and validation metrics of four digits tie.
    """
    rank = {RANK: float(place)}
    if chosen:  # it may have been compared with another one before
        return {**rank, DIFFERENCE: 0.0, P: 1.0}
    if found is None:
        return rank
    return rank | readable({DIFFERENCE: found.difference.value, P: found.p_holm})


def verdict(
    outcome: PointResult, found: Comparison | None, chosen: bool
) -> dict[str, str]:
    """Tags: whether a config is the chosen one, tied with it, worse or better."""
    tags = {"chosen": str(chosen).lower()}
    if outcome.warnings:
        tags["warnings"] = " ".join(outcome.warnings)
    if chosen:
        found_to_be = "chosen"
    elif found is None:
        return tags
    elif not told_apart(found):
        found_to_be = "tied"
    else:
        found_to_be = "worse" if found.worse else "better"
    return {**tags, "verdict": found_to_be + (_DOUBT if outcome.warnings else "")}


def about_calibration(found: Examination | None) -> str:
    """How far probabilities lie from shares, as one more sentence."""
    if found is None:
        return ""
    parts = [f"{found.errors['ece'].value:.3f} as the models give them"]
    if found.is_calibrated:
        parts.append(f"{found.errors['ece_calibrated'].value:.3f} calibrated")
    return (
        " Probabilities differ from the shares that came true (ECE, out of fold) by "
        f"{' and '.join(parts)}: decisions.png."
    )


def about_levels(chosen: PointResult) -> str:
    """Metrics and the levels to read them against, as more sentences.

    So far the Brier score of survival, which grows with bad calibration too, beside
    that of Kaplan-Meier's curve.
    """
    values, target = chosen.metrics or {}, chosen.point.config.kind
    parts = []
    for level in sorted(target.references):
        name = next(n for n in target.shown if level.startswith(f"{n}_"))
        found = [values.get(f"test_{key}_mean", math.nan) for key in (name, level)]
        if all(map(math.isfinite, found)):
            title, other = (target.titles[key] for key in (name, level))
            parts.append(f" Test: {title} {found[0]:.3f}, {other} {found[1]:.3f}.")
    return "".join(parts)
