"""Whose labels an encoder learned from: how it does on these patients says too much."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.manifest import MANIFEST, write_text

_KEY = "patients_of_labels"
# In the folder of an encoder.
_KEPT = "labels.json"
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
    found = _of_encoder(part)
    return {} if found is None else {_KEY: sorted(found)}


def learned_patients(directory: EmbeddingDirectory) -> frozenset[str]:
    """Patients whose labels the encoder of some embeddings learned from.

    See ``learned_by``.
    """
    recorded = directory.manifest.recorded
    if _KEY in recorded:
        return frozenset(map(str, recorded[_KEY]))
    # Embeddings of earlier versions say where their encoder was.
    part = recorded.get("encoder")
    return learned_by(part) if isinstance(part, Mapping) else frozenset()


def learned_by(part: Mapping[str, Any]) -> frozenset[str]:
    """Patients whose labels an encoder learned from.

    Those who chose among its weights count. Empty where it learned from none, and where
    that is not known: it was trained by other software or an earlier version whose
    encoder does not lie beside the manifest of its training.

    Args:
        part: name and parameters of the encoder.
    """
    return _of_encoder(part) or frozenset()


def _of_encoder(part: Mapping[str, Any]) -> frozenset[str] | None:
    """None: no training is known."""
    given = part.get("path") or part.get("weights")
    return _of_weights(str(given)) if given else None


def _of_weights(given: str) -> frozenset[str] | None:
    """Of an encoder directory or a file in it; None: no training is known."""
    path = Path(given).expanduser().absolute()
    folder = path.parent if path.is_file() else path
    known = _read(folder / _KEPT)
    if known is None:  # of earlier versions
        known = _read(folder.parent / MANIFEST, "recorded")
    return None if known is None else frozenset(map(str, known))


def _read(path: Path, *keys: str) -> Any:
    """The patients in a file; None: it is not there, or says nothing of them."""
    try:
        held: Any = json.loads(path.read_text())
        for key in keys:
            held = held[key]
        return held.get(_KEY)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep_beside(encoder: Path) -> None:
    """Copy into an encoder's folder what the manifest of its training records.

    The folder then says it by itself, wherever it is copied to.

    Args:
        encoder: folder of the encoder, in that of the training.
    """
    known = _read(encoder.parent / MANIFEST, "recorded")
    if known is not None:
        write_text(encoder / _KEPT, json.dumps({_KEY: known}, indent=2) + "\n")


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
