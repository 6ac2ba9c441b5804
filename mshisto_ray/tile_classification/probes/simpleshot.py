"""Nearest centroid of centred, normalised embeddings, of all or a few tiles a class."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import softmax

from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.probes import Fold, Probe


def build(
    *,
    shots: Annotated[int, Field(ge=1)] | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Probe:
    """SimpleShot: the class whose centroid is nearest; nothing is tuned.

    Embeddings are centred on the mean of training and validation tiles, which needs no
    label, and divided by their norm (CL2N). Probabilities are a softmax of the negative
    squared distances from the centroids, which lie between 0 and 4.

    Source: Wang et al. 2019, SimpleShot.

    Args:
        shots: tiles a class, drawn from training and validation tiles (all, of a class
            that has fewer); None: all of them.
        seed: with the fold decides which.
    """

    def probe(samples: TileSamples, fold: Fold) -> np.ndarray:
        known = np.sort(np.concatenate([fold.train, fold.validation]))
        values = samples.read(known).astype(np.float64)
        mean, target = values.mean(0), samples.target[known]
        values = _unit(values - mean)
        test = _unit(samples.read(fold.test).astype(np.float64) - mean)
        rng = np.random.default_rng([seed, *fold.stream])
        scores = np.full((len(test), len(samples.classes)), -np.inf)
        for code in np.unique(target).tolist():
            rows = np.flatnonzero(target == code)
            if shots is not None:
                rows = rng.permutation(rows)[:shots]
            gap = test - values[rows].mean(0)
            scores[:, code] = -(gap**2).sum(1)
        return softmax(scores, axis=1)

    return probe


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
