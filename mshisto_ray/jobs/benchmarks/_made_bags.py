"""Bags of two classes made of arrays, each of a patient of its own."""

from __future__ import annotations

import numpy as np

from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.store.features import ArrayFeatures


def bags_of(values: np.ndarray, offsets: np.ndarray, targets: np.ndarray) -> Bags:
    """Bags of instances.

    Args:
        values: instances, float32 [N, D], bag by bag.
        offsets: where each bag begins, and the end, int64 [B + 1].
        targets: 0 or 1, [B].
    """
    names = tuple(f"p{i}" for i in range(len(targets)))
    return Bags(
        features=ArrayFeatures(names, values, offsets),
        names=names,
        members=tuple((i,) for i in range(len(targets))),
        slide_ids=(None,) * len(targets),
        patient_ids=names,
        targets=targets.astype(np.int64),
        classes=("negative", "positive"),
        folds=None,
        sizes=np.diff(offsets),
        digest="",
        encoder=None,
        scale=None,
        notes=(),
    )
