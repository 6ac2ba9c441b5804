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


def record_patients(patients: Collection[str], start: str) -> dict[str, list[str]]:
    """What the manifest of a training records.

    Args:
        patients: whose labels it reads.
        start: its initial weights: whose labels those learned counts, too.
    """
    return {_KEY: sorted({*patients, *(_of_weights(start) or ())})}


def record_encoder(part: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the manifest of embeddings records of their encoder; nothing: not known.

    Read when they are made, so that it stays with them wherever the encoder is moved.

    Args:
        part: name and parameters of the encoder.
    """
    given = part.get("path") or part.get("weights")
    found = _of_weights(str(given)) if given else None
    return {} if found is None else {_KEY: sorted(found)}


def learned_patients(directory: EmbeddingDirectory) -> frozenset[str]:
    """Patients whose labels the encoder of some embeddings learned from.

    Those who chose among its weights count. Empty where it learned from none, and where
    that is not known: it was trained by other software or an earlier version, or lay
    apart from the manifest of its training when the tiles were embedded.
    """
    recorded = directory.manifest.recorded
    if _KEY in recorded:
        return frozenset(map(str, recorded[_KEY]))
    # Embeddings of earlier versions say where their encoder was.
    part = recorded.get("encoder")
    if not isinstance(part, Mapping) or part.get("name") != "checkpoint":
        return frozenset()
    return _of_weights(str(part.get("path"))) or frozenset()


def _of_weights(given: str) -> frozenset[str] | None:
    """Of an encoder directory or a file in it; None: no training is known."""
    path = Path(given).expanduser().absolute()
    folder = path.parent if path.is_file() else path
    try:
        recorded: Any = json.loads((folder.parent / MANIFEST).read_text())["recorded"]
        known = recorded.get(_KEY)
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return None if known is None else frozenset(map(str, known))


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
