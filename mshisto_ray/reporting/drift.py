"""Drift of new patients in words."""

from __future__ import annotations

from mshisto_ray.decision.reference import LEVEL, Drift


def about_drift(drift: Drift) -> str:
    """Whether new patients lie where those of training did, in two sentences."""
    share = drift.apart / drift.patients
    alarm = "lie apart from" if drift.cohort < LEVEL else "lie where"
    rest = "" if drift.cohort < LEVEL else " do"
    return (
        f"Drift: the {drift.patients} new patients {alarm} those of training{rest} "
        f"(p = {drift.cohort:.3g} of all together, by Mahalanobis distances of mean "
        f"embeddings). {drift.apart} of them ({share:.0%}) have a p below "
        f"{LEVEL:g}, which {LEVEL:.0%} of patients like those of training have."
    )
