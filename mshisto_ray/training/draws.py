"""Counter-based randomness: a pure function of (seed, purpose, step, row).

No generator state is kept, so a batch is the same before and after a resume, and on
any number of workers.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

# Each purpose has a stream of its own; append only, or old seeds change meaning.
Purpose = Literal[
    "pairs",
    "slides",
    "scale",
    "augment",
    "blocks",
    "windows",
    "monitor",
    "classes",
    "augment_more",
    "memory",
]
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def uniforms(
    seed: int, purpose: Purpose, step: int, num: int, width: int
) -> np.ndarray:
    """Draw uniform numbers in [0, 1), float64 [num, width].

    Row i depends on (seed, purpose, step, width, i) only, not on ``num``.
    """
    # The step is the counter's last word: streams are 2^192 blocks apart.
    bits = np.random.Philox(
        key=np.array([seed, _PURPOSES.index(purpose)], np.uint64),
        counter=np.array([0, 0, 0, step], np.uint64),
    )
    return np.random.Generator(bits).random((num, width))


def choose(uniform: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Map uniform numbers to integers in [0, count); 0 where a count is 0."""
    return np.minimum((uniform * counts).astype(np.int64), np.maximum(counts - 1, 0))
