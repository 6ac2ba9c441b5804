"""What a job says of the cohort that it has read."""

from __future__ import annotations

from mshisto_ray.progress import say
from mshisto_ray.store.cohort import Cohort


def say_cohort(job: str, cohort: Cohort) -> None:
    """Print the number of slides and patients, and what was read as missing."""
    for line in (f"{cohort.summary} in {cohort.path}", *cohort.notes):
        say(f"{job}: {line}")
