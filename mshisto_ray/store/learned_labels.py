"""Whose labels an encoder learned from: how it does on these patients says too much."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.manifest import MANIFEST

_KEY = "patients_of_labels"
_SHOWN = 3


def record_patients(patients: Collection[str]) -> dict[str, list[str]]:
    """What the manifest of a training records: patients whose labels it reads."""
    return {_KEY: sorted(set(patients))}


def learned_patients(directory: EmbeddingDirectory) -> frozenset[str]:
    """Patients whose labels the encoder of some embeddings learned from.

    Those who chose among its weights count. Empty where it learned from none, and where
    that is not known: it was trained by other software or an earlier version, or it
    does not lie beside the manifest of its training any more.
    """
    part = directory.manifest.recorded.get("encoder")
    if not isinstance(part, Mapping) or part.get("name") != "checkpoint":
        return frozenset()
    manifest = Path(str(part.get("path"))).parent / MANIFEST
    try:
        recorded: Any = json.loads(manifest.read_text())["recorded"]
        return frozenset(map(str, recorded.get(_KEY, ())))
    except (OSError, ValueError, KeyError, AttributeError):
        return frozenset()


def learned_note(
    directory: EmbeddingDirectory, patients: Collection[str]
) -> str | None:
    """A line where an encoder learned from labels of these patients; None: of none."""
    known = sorted(learned_patients(directory) & set(patients))
    if not known:
        return None
    named = ", ".join(known[:_SHOWN]) + (", ..." * (len(known) > _SHOWN))
    return (
        f"the encoder of {directory.path} learned from the labels of {len(known)} of "
        f"{len(set(patients))} patients ({named}): tests on them say nothing of new "
        "patients"
    )
