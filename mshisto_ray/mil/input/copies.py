"""Slides that a cohort has twice, under two names: found by their files or features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.mil.input.source import BagRow
from mshisto_ray.store.features import ArrayFeatures, Features
from mshisto_ray.store.same_slides import explain_copies


def copy_notes(
    rows: Sequence[BagRow], features: Features, fingerprints: Mapping[str, str]
) -> list[str]:
    """A line per group of slides of one patient that are copies of each other.

    The same file under two names has one fingerprint; the same scan in two files (an
    anonymised copy, another container) has the same features. Features are compared
    where they lie in memory or are mapped.

    Args:
        rows: slides or bags that are trained on or tested.
        features: theirs.
        fingerprints: of the slides' files, by name; empty for bags without files.

    Raises:
        InputError: copies under different patients, which folds would part.
    """
    patients = {row.name: row.patient_id for row in rows}
    prints = {name: fingerprints.get(name) for name in patients}
    problems, notes = explain_copies(prints, patients)
    same = _same_features(rows, features) if fingerprints else {}
    more, also = explain_copies(same, patients)
    known = {*problems, *notes}
    problems += [line for line in more if line not in known]
    if problems:
        raise InputError("\n".join(problems))
    return notes + [line for line in also if line not in known]


def _same_features(
    rows: Sequence[BagRow], features: Features
) -> dict[str, tuple[int, bytes] | None]:
    """What slides of equal features share, by name; None: nothing to compare."""
    if not isinstance(features, ArrayFeatures):
        return {}
    keys: dict[str, tuple[int, bytes] | None] = {}
    first: dict[tuple[int, bytes], np.ndarray] = {}
    for row in rows:
        values = features.read(row.member) if row.member >= 0 else np.zeros((0, 1))
        key = None
        # Of an encoder that gives all tiles the same, all slides would be equal.
        if len(values) > 1 and (values[0] != values[-1]).any():
            key = len(values), values[0].tobytes() + values[-1].tobytes()
            if not np.array_equal(first.setdefault(key, values), values):
                key = None
        keys[row.name] = key
    return keys
