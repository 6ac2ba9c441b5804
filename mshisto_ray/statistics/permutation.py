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


def exchange_sequences(
    targets: np.ndarray, patients: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Targets [N] after patients have exchanged their whole sequences of them.

    Each patient takes the sequence of another, stretched to its own number of rows and
    begun at a random place, its end followed by its beginning (as the toroidal shifts
    of Lotwick and Silverman 1982). Runs of equal targets stay runs, so that what
    neighbours have in common is no evidence; a patient of one target gives it to all
    rows of another.

    Args:
        targets: of each row, [N].
        patients: of each row, [N]; rows of a patient are in an order in which
            neighbours follow each other.
        generator: of the exchange.
    """
    order = np.argsort(patients, kind="stable")
    _, starts, sizes = np.unique(patients[order], return_index=True, return_counts=True)
    result = np.empty_like(targets)
    for place, giver in enumerate(generator.permutation(len(starts))):
        size, given = sizes[place], sizes[giver]
        at = (np.arange(size) * given // size + generator.integers(given)) % given
        own = order[starts[place] + np.arange(size)]
        result[own] = targets[order[starts[giver] + at]]
    return result


def hilbert_places(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Place of each of N cells of a grid along Hilbert's curve, int64 [N].

    Cells that follow each other on it lie close together (Hilbert 1891).

    Args:
        row: from 0 on, int [N].
        col: likewise.
    """
    x, y = col.astype(np.int64), row.astype(np.int64)
    found = np.zeros(len(x), np.int64)
    side = 1 << int(max(x.max(initial=0), y.max(initial=0))).bit_length()
    while side > 1:
        side //= 2
        right, low = (x & side) > 0, (y & side) > 0
        found += side * side * ((3 * right) ^ low)
        x, y = x & (side - 1), y & (side - 1)
        flip = right & ~low
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(low, x, y), np.where(low, y, x)
    return found


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
