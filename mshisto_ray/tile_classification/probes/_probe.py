"""The interface of a probe: a small classifier that shows what embeddings hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mshisto_ray.tile_classification.head.samples import TileSamples


@dataclass(frozen=True)
class Fold:
    """One split of the samples; no patient is in two parts.

    ``train``, ``validation``, ``test``: sorted indices; ``stream``: (repeat, fold),
    which with the probe's seed decides all randomness.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    stream: Sequence[int]


class Probe(Protocol):
    """Learns from the training tiles; what it has to choose, it chooses on validation.

    Nothing of it depends on the test tiles.
    """

    def __call__(self, samples: TileSamples, fold: Fold) -> np.ndarray:
        """Probabilities [n, C] of the test tiles."""
        ...


def standardised(
    samples: TileSamples, train: np.ndarray, *parts: np.ndarray
) -> list[np.ndarray]:
    """Embeddings of parts, float64, standardised on the training tiles."""
    values = samples.read(train).astype(np.float64)
    mean, spread = values.mean(0), values.std(0)
    # As in representation.normalise: what is constant to float32 stays as it is.
    spread[spread <= 1e-6 * np.abs(mean)] = 1.0
    spread[spread == 0] = 1.0
    return [(samples.read(part).astype(np.float64) - mean) / spread for part in parts]
