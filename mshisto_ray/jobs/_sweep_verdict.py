"""What a sweep's run of a config says of it beside the chosen one."""

from __future__ import annotations

from mshisto_ray.decision.examination import Examination
from mshisto_ray.jobs._experiment_run import readable
from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.learning.sweep.results import PointResult
from mshisto_ray.reporting.sweep_tables import told_apart

_DOUBT = ", hardly trained"


def difference(found: Comparison | None, chosen: bool) -> dict[str, float]:
    """A config's test metric less that of the chosen one, and p after Holm."""
    if chosen:  # it may have been compared with another one before
        return {"diff_to_chosen": 0.0, "p_difference": 1.0}
    if found is None:
        return {}
    return readable(
        {"diff_to_chosen": found.difference.value, "p_difference": found.p_holm}
    )


def verdict(
    outcome: PointResult, found: Comparison | None, chosen: bool, place: int
) -> dict[str, str]:
    tags = {"chosen": str(chosen).lower(), "rank": str(place)}
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
