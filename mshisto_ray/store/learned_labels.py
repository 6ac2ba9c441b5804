"""Whose labels an encoder learned from: how it does on these patients says too much."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
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

    See ``learned_by``.
    """
    part = directory.manifest.recorded.get("encoder")
    return learned_by(part) if isinstance(part, Mapping) else frozenset()


def learned_by(encoder: Mapping[str, Any]) -> frozenset[str]:
    """Patients whose labels an encoder learned from.

    Those who chose among its weights count. Empty where it learned from none, and where
    that is not known: it was trained by other software or an earlier version, or it
    does not lie beside the manifest of its training any more.

    Args:
        encoder: its ``name``, and the ``path`` of a checkpoint.
    """
    if encoder.get("name") != "checkpoint":
        return frozenset()
    manifest = Path(str(encoder.get("path"))).parent / MANIFEST
    try:
        recorded: Any = json.loads(manifest.read_text())["recorded"]
        return frozenset(map(str, recorded.get(_KEY, ())))
    except (OSError, ValueError, KeyError, AttributeError):
        return frozenset()


def learned_note(
    directory: EmbeddingDirectory, patients: Collection[str]
) -> str | None:
    """A line where an encoder learned from labels of these patients; None: of none."""
    return in_words(str(directory.path), learned_patients(directory), patients)


def learned_notes(
    directories: Iterable[EmbeddingDirectory], patients: Collection[str]
) -> list[str]:
    """Warnings of ``learned_note``, each once."""
    found = (learned_note(directory, patients) for directory in directories)
    return list(dict.fromkeys(f"warning: {note}" for note in found if note))


def in_words(
    of: str, learned: Collection[str], patients: Collection[str]
) -> str | None:
    """As ``learned_note``; ``of``: what the encoder is known by."""
    known = sorted(set(learned) & set(patients))
    if not known:
        return None
    named = ", ".join(known[:_SHOWN]) + (", ..." * (len(known) > _SHOWN))
    return (
        f"the encoder of {of} learned from the labels of {len(known)} of "
        f"{len(set(patients))} patients ({named}): tests on them say nothing of new "
        "patients"
    )
