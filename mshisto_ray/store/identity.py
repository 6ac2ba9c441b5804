"""What identifies a slide and a patient: checks of the ids of a whole table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mshisto_ray.store.file_names import MAX_BYTES, file_name
from mshisto_ray.store.spelling import explain_clashes, spelling_key
from mshisto_ray.store.table import is_doubtful_word

_SHOWN = 5
_ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+\d+")


def check_ids(
    slide_ids: Sequence[str], stated: Sequence[str | None], what: str
) -> list[str]:
    """Return the problems of a table's ids, a line each.

    A slide without a stated patient is its own patient.

    Args:
        slide_ids: of N slides (or bags).
        stated: patient of each, None where the table states none.
        what: the name of the column of slides, for messages.
    """
    patients = [patient for patient in stated if patient is not None]
    problems = explain_clashes(what, slide_ids)
    problems += explain_clashes("patient_id", patients)
    problems += _borrowed(slide_ids, stated, what)
    problems += _rounded(slide_ids, what) + _rounded(patients, "patient_id")
    problems += [
        f"{name!r} is too long for a file's name: {size} bytes, at most {MAX_BYTES}"
        for name in dict.fromkeys([*slide_ids, *patients])
        if (size := len(file_name(name).encode())) > MAX_BYTES
    ]
    return problems


def _borrowed(
    slide_ids: Sequence[str], stated: Sequence[str | None], what: str
) -> list[str]:
    """Lines on slides without a patient whose own id is the id of a patient."""
    first = {spelling_key(p): p for p in stated if p is not None}
    found = [
        f"{what} {slide!r} has no patient_id and is not its own patient either: other "
        f"rows have the patient_id {first[spelling_key(slide)]!r}; fill in its "
        "patient_id, or give it another id"
        for slide, patient in zip(slide_ids, stated, strict=True)
        if patient is None and spelling_key(slide) in first
    ]
    return found[:_SHOWN]


def _rounded(names: Sequence[str], what: str) -> list[str]:
    """Lines on ids such as 1.23457E+11, of which a spreadsheet has lost digits."""
    found = [name for name in dict.fromkeys(names) if _ROUNDED.fullmatch(name)]
    return [
        f"{what} {name!r} is a long number that a spreadsheet has rounded, as it may "
        "have others to the same: format the column as text, and export it anew"
        for name in found[:_SHOWN]
    ]


def doubtful_patient_notes(stated: Sequence[str | None], what: str) -> list[str]:
    """Return a line per patient_id of several rows that may stand for none."""
    counts = Counter(patient for patient in stated if patient is not None)
    return [
        f"warning: {num} {what} have the patient_id {patient!r} and count as one "
        "patient: empty these cells if it is unknown"
        for patient, num in counts.items()
        if num > 1 and is_doubtful_word(patient)
    ]


def own_patient_note(stated: Sequence[str | None], what: str) -> list[str]:
    """Return a line on the slides or bags that count as their own patients."""
    num = sum(patient is None for patient in stated)
    if not num:
        return []
    total = len(stated)
    return [f"{num} of {total} {what} have no patient_id: each is its own patient"]
