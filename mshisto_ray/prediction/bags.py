"""The bags of a cohort that a head predicts."""

from __future__ import annotations

from collections.abc import Mapping

from mshisto_ray.config import InputError
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.labels import find_targets
from mshisto_ray.prediction.unit import Bag
from mshisto_ray.prediction.values import later_truth
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.spelling import explain_clashes

_SHOWN = 5


def make_bags(head: Head, cohort: Cohort) -> tuple[list[Bag], list[str]]:
    """Return a bag per slide or per patient, as the head was trained, and notes.

    Patients that every model of the head has seen (in the train and validation parts
    of a given split) are left out, which a note says.

    Raises:
        InputError: no bag is left, a patient is spelled otherwise than in training,
            or labels cannot be used (see ``find_targets``).
    """
    groups: dict[str, list[str]] = {}
    patients: dict[str, str] = {}
    for row in cohort.rows:
        name = row.slide_id if head.about["unit"] == "slide" else row.patient_id
        groups.setdefault(name, []).append(row.slide_id)
        patients[name] = row.patient_id
    problems = explain_clashes(
        f"{cohort.path}: patient_id, here and in the head's training",
        [*head.folds, *patients.values()],
    )
    if problems:
        raise InputError("\n".join(problems))
    whole = [Bag(name, patients[name], slides) for name, slides in groups.items()]
    bags = [bag for bag in whole if head.models_for(bag.patient_id)]
    if not bags:
        raise InputError(
            f"{cohort.path}: every model of the head was trained on these patients or "
            "chosen by them; give slides of other patients"
        )
    # Either raises for a patient with two labels.
    if head.kind.of_classes:
        find_targets(head, cohort, bags)
    else:
        later_truth(head, cohort, bags)
    kept = {bag.name for bag in bags}
    seen = [s for bag in whole if bag.name not in kept for s in bag.slide_ids]
    return bags, [_left_out(seen)] if seen else []


def trained_on_notes(
    head: Head, cohort: Cohort, fingerprints: Mapping[str, str]
) -> list[str]:
    """A line on slides that the head was trained on under other patients, if any.

    Models predict them as if they were new, and metrics are too good.

    Args:
        head: that predicts; one of an older version knows no fingerprints.
        cohort: of the slides.
        fingerprints: of their files, by slide_id.
    """
    trained = head.about.get("slides", {})
    found = [
        (row.slide_id, row.patient_id, trained[fingerprint])
        for row in cohort.rows
        if (fingerprint := fingerprints.get(row.slide_id)) in trained
        and trained[fingerprint] != row.patient_id
    ]
    if not found:
        return []
    slide_id, patient, former = found[0]
    return [
        f"warning: {len(found)} slides are files that the head was trained on, of "
        f"other patients ({slide_id!r} of {patient!r} was of {former!r}), and metrics "
        "are too good: give them those patient_ids, so that models predict them that "
        "have not seen them, or leave them out"
    ]


def _left_out(slide_ids: list[str]) -> str:
    shown = ", ".join(slide_ids[:_SHOWN]) + (", ..." if slide_ids[_SHOWN:] else "")
    return (
        f"{len(slide_ids)} slides left out, of patients in the train or validation "
        f"part of the head's split: {shown}"
    )
