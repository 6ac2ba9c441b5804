"""Where the patients of training lie, for the drift test of new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.statistics.drift import DriftTest

# With fewer no p of the test could be below .05.
LEAST_PATIENTS = 20
LEVEL = 0.05


@dataclass(frozen=True)
class Drift:
    """How new patients lie.

    ``p``: of each bag's patient, NaN where it took part in training; ``cohort``: of all
    new patients together; ``patients``: number of these; ``apart``: of them those
    with a p below 5 %.
    """

    p: np.ndarray
    cohort: float
    patients: int
    apart: int


def patient_means(
    patients: Sequence[str], members: Sequence[Sequence[int]], mean: Callable
) -> tuple[list[str], np.ndarray]:
    """Mean embedding of each patient: over tiles of a slide, then over slides.

    Args:
        patients: of each bag.
        members: slides of each bag.
        mean: from a slide to its mean [D], None where it has no tile.

    Returns:
        P names, sorted, and float32 [P, D]; of patients with a tile.
    """
    slides: dict[str, set[int]] = {}
    for patient, own in zip(patients, members, strict=True):
        slides.setdefault(patient, set()).update(own)
    found = {}
    for patient in sorted(slides):
        means = [mean(member) for member in sorted(slides[patient])]
        known = [value for value in means if value is not None]
        if known:
            found[patient] = np.mean(known, axis=0)
    return list(found), np.array([*found.values()], np.float32)


def find_drift(
    reference: np.ndarray,
    patients: Sequence[str],
    slides: Sequence[int],
    means: np.ndarray,
    trained: Sequence[bool],
) -> Drift | None:
    """Test the patients of bags against those of training; None: no patient is new.

    Args:
        reference: mean embeddings of training patients, [P, D].
        patients: of each bag, [B].
        slides: number of each bag's slides, [B].
        means: over each bag's slides of their mean embeddings, [B, D].
        trained: whether each bag's patient took part in training, [B].
    """
    new = ~np.array(trained, bool)
    p = np.full(len(patients), np.nan)
    if not new.any():
        return None
    names, code = np.unique(np.array(patients)[new], return_inverse=True)
    weight = np.array(slides, float)[new]
    sums = np.zeros((len(names), means.shape[1]))
    np.add.at(sums, code, means[new] * weight[:, None])
    values = sums / np.bincount(code, weight)[:, None]
    test = DriftTest(reference.astype(np.float64))
    each = test.p_values(values)
    p[new] = each[code]
    apart = int((each < LEVEL).sum())
    return Drift(p, test.cohort_p(values), len(names), apart)
