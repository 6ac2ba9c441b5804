"""What a study checks before its first step, and what it shows."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

from mshisto_ray import components
from mshisto_ray.config import InputError
from mshisto_ray.embedding.worker import ENCODERS
from mshisto_ray.encoders import check_takes
from mshisto_ray.jobs import predict, sweep, tile
from mshisto_ray.jobs._study_config import RunConfig, StudySteps
from mshisto_ray.jobs._study_folds import check_points
from mshisto_ray.progress import say
from mshisto_ray.store import tiles
from mshisto_ray.store.cohort import Cohort, CohortSlide, read_cohort
from mshisto_ray.store.head_files import head_digest
from mshisto_ray.store.identity import check_ids
from mshisto_ray.store.manifest import MANIFEST, check_stage, read_manifest
from mshisto_ray.store.same_slides import explain_same_slides
from mshisto_ray.store.temporary import temporary_beside


def check_study(config: RunConfig, steps: StudySteps) -> None:
    """Check slides, labels, folds, encoder and models before the first step.

    Raises:
        InputError: something that a step would refuse, so far as it can be known
            without opening a slide.
    """
    cohort, _ = read_cohorts(config)
    if config.new_cohort is None:
        tile.check(steps.tile)
    else:
        check_stage(steps.tile.out, tiles.STAGE, steps.tile.recipe.as_recipe())
    check_stage(steps.sweep.out, sweep.STAGE, {"stage": sweep.STAGE})
    assert steps.embed.encoder is not None
    encoder = components.build(ENCODERS, steps.embed.encoder, "cpu", "float32")
    check_takes(encoder, steps.tile.tile_px)
    check_points(steps, cohort, encoder.dim)


def read_cohorts(config: RunConfig) -> tuple[Cohort, Cohort | None]:
    """The cohort and the new one.

    Raises:
        InputError: a table that cannot be used; slides that are in both.
    """
    cohort = read_cohort(config.cohort, columns=config.columns)
    if config.new_cohort is None:
        return cohort, None
    new = read_cohort(config.new_cohort, columns=config.columns)
    old = {row.slide_id for row in cohort.rows}
    both = [row.slide_id for row in new.rows if row.slide_id in old]
    if both:
        shown = ", ".join(both[:5]) + (", ..." if both[5:] else "")
        raise InputError(
            f"{new.path}: {len(both)} slides are in {cohort.path} too ({shown}): take "
            "them out of one, or give them other slide_ids if they are others"
        )
    rows = _rows(cohort, new)
    problems = explain_same_slides([(row.slide_id, row.path) for row in rows])
    stated = [row.patient_id for row in rows]
    problems += check_ids([row.slide_id for row in rows], stated, "slide_id")
    if problems:
        both_tables = f"{cohort.path} and {new.path}"
        raise InputError("\n".join(f"{both_tables}: {line}" for line in problems))
    return cohort, new


def write_slides(cohort: Cohort, new: Cohort, path: Path) -> None:
    """Write one table of the slides of both cohorts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    names = ["path", "slide_id", "patient_id", "mpp", "annotation"]
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in _rows(cohort, new):
            cells = {name: getattr(row, name) for name in names}
            cells["path"] = row.path.absolute()
            cells["annotation"] = row.annotation and row.annotation.absolute()
            writer.writerow(cells)
    temporary.replace(path)


def _rows(cohort: Cohort, new: Cohort) -> list[CohortSlide]:
    return [*cohort.rows, *new.rows]


def keep_former(out: Path, head: Path) -> None:
    """Make room for a head's predictions; those of another one are kept beside them.

    The best head changes with labels, slides or axes.
    """
    if not (out / MANIFEST).is_file():
        return
    former = str(read_manifest(out, predict.STAGE).recipe["head"])
    if former == head_digest(head):
        return
    kept = out.with_name(f"{out.name}-{former[:8]}")
    shutil.rmtree(kept, ignore_errors=True)
    out.rename(kept)
    say(f"run: another head is chosen now; the former one's predictions: {kept}")


def say_step(text: str) -> None:
    """Print the heading of a step."""
    say(f"\n== {text}")


def say_ranking(out: Path) -> None:
    """Print the sweep's table."""
    say_step("ranking")
    say((out / "sweep" / "summary.md").read_text())


def say_places(seconds: float, places: Sequence[tuple[str, Path | str]]) -> None:
    """Print the time and what to look at, a line each."""
    say(f"\nDone in {seconds:.0f} s. Look at:")
    for what, where in places:
        say(f"  {what}: {where}")
