"""The draws of an epoch: each once, or every class as often."""

from __future__ import annotations

import numpy as np


def epoch_draws(
    draws: np.ndarray,
    classes: np.ndarray | None,
    order: np.random.Generator,
    together: bool = False,
) -> np.ndarray:
    """Draws [M, 2] of an epoch in random order.

    Balanced, draws of a rare class come several times, each as often as the others but
    for one, and some of a frequent class are left for other epochs.

    Args:
        draws: (bag, number of random bag) of all training bags, [M, 2].
        classes: of every bag; None: each draw once.
        order: of the draws.
        together: bags in random order, each with all its draws.
    """
    if together:
        bags = order.permutation(np.unique(draws[:, 0]))
        place = np.empty(bags.max(initial=0) + 1, np.int64)
        place[bags] = np.arange(len(bags))
        return draws[np.argsort(place[draws[:, 0]], kind="stable")]
    if classes is None:
        return order.permutation(draws)
    of = classes[draws[:, 0]]
    present = np.unique(of)
    shares = np.full(len(present), len(draws) // len(present))
    shares[order.permutation(len(present))[: len(draws) % len(present)]] += 1
    chosen = []
    for code, num in zip(present, shares, strict=True):
        own = draws[of == code]
        rounds = -(-num // len(own))
        passes = [order.permutation(own) for _ in range(rounds)]
        chosen.append(np.concatenate(passes)[:num])
    return order.permutation(np.concatenate(chosen))
