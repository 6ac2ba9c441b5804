"""The files that a slide's tiles are made from, and copies among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mshisto_ray.config import (
    InputError,
)
from mshisto_ray.store.cohort import (
    Cohort,
    CohortSlide,
)
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.fingerprint import fingerprints, is_empty
from mshisto_ray.store.same_slides import explain_copies


def input_keys(
    cohort: Cohort, places: EmbeddingDirectory | None = None
) -> dict[str, Any]:
    """The inputs that a slide's shard must match to be kept, by slide_id."""
    used = {
        row.slide_id: [path for path in (row.path, row.annotation) if path]
        for row in cohort.rows
    }
    known = fingerprints([path for paths in used.values() for path in paths])

    def key(row: CohortSlide) -> dict[str, Any]:
        files = [known[path] for path in used[row.slide_id]]
        # Reported as the slide's failure when it is tiled.
        found = {"files": [] if None in files else files, "mpp": row.mpp}
        return found | {"places": places.state(row.slide_id)} if places else found

    return {row.slide_id: key(row) for row in cohort.rows}


def copy_notes(cohort: Cohort, keys: Mapping[str, Any]) -> list[str]:
    """A line per group of one patient's slides that are copies of each other.

    Raises:
        InputError: copies under different patients.
    """
    files = {slide_id: key["files"] for slide_id, key in keys.items()}
    prints = {s: f[0] if f and not is_empty(f[0]) else None for s, f in files.items()}
    patients = {row.slide_id: row.patient_id for row in cohort.rows}
    problems, notes = explain_copies(prints, patients)
    if problems:
        raise InputError("\n".join(f"{cohort.path}: {line}" for line in problems))
    return notes
