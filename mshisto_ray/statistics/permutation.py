"""Could labels that mean nothing have done as well?"""

from __future__ import annotations

import numpy as np


def permute_by_patient(
    targets: np.ndarray, patients: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Targets [N] after patients have exchanged them.

    A patient's rows take those of another with as many rows, in their order, so that
    rows of a patient still belong together.

    Args:
        targets: of each row, [N].
        patients: of each row, [N].
        generator: of the exchange.
    """
    order = np.argsort(patients, kind="stable")
    _, starts, rows = np.unique(patients[order], return_index=True, return_counts=True)
    result = np.empty_like(targets)
    for num in np.unique(rows):
        own = starts[rows == num, None] + np.arange(num)
        shuffled = generator.permutation(own)
        result[order[own]] = targets[order[shuffled]]
    return result


def max_p_values(observed: np.ndarray, permuted: np.ndarray) -> np.ndarray:
    """P of each of C configs to do as well by chance, corrected for having chosen.

    The share of B permutations in which the best of all configs reaches a config's
    value, the observed one counted (Westfall and Young 1993, maxT; Phipson and Smyth
    2010 for the one that is added).

    Args:
        observed: metric of each config, higher is better, [C].
        permuted: the same with permuted targets, [B, C]; NaN where not defined.

    Returns:
        [C], each at least 1 / (B + 1).
    """
    best = np.nanmax(permuted, axis=1)
    reached = (best[:, None] >= observed - 1e-12).sum(0)
    return (1 + reached) / (1 + len(best))
