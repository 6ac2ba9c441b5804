"""Labels that a cohort has of predicted bags."""

from __future__ import annotations

from mshisto_ray.config import InputError
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.pictures import Truth
from mshisto_ray.prediction.unit import Bag
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.spelling import canonical_number, explain_clashes


def find_targets(head: Head, cohort: Cohort, bags: list[Bag]) -> list[str | None]:
    """The label of each bag, None where the cohort has none of the head's classes.

    Raises:
        InputError: slides of one bag have different labels.
    """
    column = head.about["target"]["column"]
    if cohort.find(column) is None:
        return [None] * len(bags)
    labels = cohort.column(column)
    # A head of earlier versions may have the class "1.0", which tables now call "1".
    classes = {canonical_number(name): name for name in head.classes}
    known = [label for label in labels.values() if label is not None]
    problems = explain_clashes(f"{cohort.path}: {column}", [*known, *classes])
    if problems:
        raise InputError("\n".join(problems))
    targets: list[str | None] = []
    for bag in bags:
        own = {labels[slide_id] for slide_id in bag.slide_ids} - {None}
        if len(own) > 1:
            raise InputError(
                f"{cohort.path}: patient {bag.name!r} has slides with different "
                f"{column}s ({', '.join(sorted(map(str, own)))})"
            )
        label = own.pop() if own else None
        targets.append(classes.get(label) if label else None)
    return targets


def find_truth(head: Head, cohort: Cohort, bags: list[Bag]) -> dict[str, Truth]:
    """What the cohort knows of each slide: label of its bag, annotation."""
    targets: list[str | None] = [None] * len(bags)
    if head.kind.of_classes:
        targets = find_targets(head, cohort, bags)
    labels = {
        slide_id: target
        for bag, target in zip(bags, targets, strict=True)
        for slide_id in bag.slide_ids
    }
    return {
        row.slide_id: Truth(labels.get(row.slide_id), row.annotation)
        for row in cohort.rows
    }


def unknown_labels(head: Head, cohort: Cohort, bags: list[Bag]) -> list[str]:
    """A note on slides whose label is not a class of the head, if there are any."""
    column = head.about["target"]["column"]
    if cohort.find(column) is None:
        return []
    labels = cohort.column(column)
    own = {slide: labels[slide] for bag in bags for slide in bag.slide_ids}
    known = {None, *map(canonical_number, head.classes)}
    others = sorted(slide for slide, label in own.items() if label not in known)
    if not others:
        return []
    return [
        f"{len(others)} slides have a {column} that is not a class of the head "
        f"({', '.join(head.classes)}) and are left out of external metrics: "
        f"{', '.join(others[:5])}{', ...' if others[5:] else ''}"
    ]
