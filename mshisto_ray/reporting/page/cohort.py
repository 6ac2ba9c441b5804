"""The cohort on the page: who is in it, who is not and why, what was tiled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mshisto_ray.reporting.page.blocks import (
    Block,
    Figure,
    Figures,
    Items,
    Section,
    Table,
    Text,
)
from mshisto_ray.reporting.page.images import photograph
from mshisto_ray.store.failures import Failure, reasons

_MOST_CLASSES = 20
_SHEET_BYTES = 1_400_000
_NO_LABEL = "(no label)"


@dataclass(frozen=True)
class CohortSlides:
    """The slides of a cohort, and how far each has come.

    Attributes:
        patients: patient of each slide, by slide_id.
        labels: label of each slide; None: unknown. None: the cohort has no label.
        column: name of the label.
        reached: slides that each step has, by its name, in the order of the steps.
        failures: of the slides.
        notes: lines on what is left out.
        coverage: lines on the tissue inside tiles.
        contact_sheet: picture of the tiled slides, where there is one.
    """

    patients: Mapping[str, str]
    labels: Mapping[str, str | None] | None
    column: str
    reached: Mapping[str, Sequence[str]]
    failures: Sequence[Failure] = ()
    notes: Sequence[str] = ()
    coverage: Sequence[str] = ()
    contact_sheet: Path | None = None


def cohort_section(cohort: CohortSlides, name: str, title: str) -> Section:
    """Slides, patients and classes, exclusions with reasons, coverage, pictures."""
    blocks: list[Block] = [_steps(cohort)]
    if cohort.labels is not None:
        blocks.append(_classes(cohort))
    if cohort.notes:
        blocks.append(Items(cohort.notes, "What is left out, and what to know"))
    blocks += _failures(cohort.failures)
    blocks += _coverage(cohort.coverage)
    if cohort.contact_sheet and cohort.contact_sheet.is_file():
        what = "First page of the contact sheet: tissue, tiles and annotations"
        source = photograph(cohort.contact_sheet, max_bytes=_SHEET_BYTES)
        where = "/".join(cohort.contact_sheet.parts[-3:])
        figure = Figure(source, what, f"{what}. All pixels of it: {where}.")
        blocks.append(Figures([figure], 1, "What was tiled"))
    return Section(name, title, blocks)


def _steps(cohort: CohortSlides) -> Table:
    steps = {"in the table": list(cohort.patients), **cohort.reached}
    rows = []
    for name, slides in steps.items():
        own = [slide for slide in slides if slide in cohort.patients]
        patients = {cohort.patients[slide] for slide in own}
        rows.append([name, str(len(own)), str(len(patients))])
    return Table(["", "slides", "patients"], rows)


def _classes(cohort: CohortSlides) -> Table:
    assert cohort.labels is not None
    last = set(list(cohort.reached.values())[-1]) if cohort.reached else set()
    members: dict[str, list[str]] = defaultdict(list)
    for slide in cohort.patients:
        members[cohort.labels.get(slide) or _NO_LABEL].append(slide)
    # In their order, those without a label last.
    order = sorted(members, key=lambda label: (label == _NO_LABEL, label))
    rows = []
    for label in order[:_MOST_CLASSES]:
        slides = members[label]
        patients = {cohort.patients[slide] for slide in slides}
        kept = sum(slide in last for slide in slides)
        rows.append([label, str(len(slides)), str(len(patients)), str(kept)])
    caption = ""
    if len(order) > _MOST_CLASSES:
        caption = f"{len(order) - _MOST_CLASSES} more values are not shown"
    final = list(cohort.reached)[-1] if cohort.reached else "kept"
    header = [cohort.column, "slides", "patients", f"slides {final}"]
    return Table(header, rows, f"Labels: {cohort.column}", caption)


def _failures(failures: Sequence[Failure]) -> list[Block]:
    if not failures:
        return [Text("No failure is recorded.", "note")]
    slides = len({failure.slide_id for failure in failures})
    heading = f"Failures: {len(failures)}, of {slides} slides"
    return [Items(reasons(failures), heading)]


def _coverage(lines: Sequence[str]) -> list[Block]:
    return [
        Text(line, "warning" if line.startswith("warning") else "plain")
        for line in lines
    ]
