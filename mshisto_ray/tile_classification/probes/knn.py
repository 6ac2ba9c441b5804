"""Nearest neighbours, weighted by similarity."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.probes import Fold, Probe, standardised

_ROWS_AT_ONCE = 1024


def build(
    *,
    k: Annotated[int, Field(ge=1)] = 20,
    temperature: Annotated[float, Field(gt=0)] = 0.07,
) -> Probe:
    """Votes of the ``k`` most similar training and validation tiles.

    Similarity is the cosine of standardised embeddings; a vote weighs
    exp(similarity / temperature).

    Source: Wu et al. 2018, instance discrimination.
    """

    def probe(samples: TileSamples, fold: Fold) -> np.ndarray:
        known = np.sort(np.concatenate([fold.train, fold.validation]))
        rows, test = map(_unit, standardised(samples, known, known, fold.test))
        target, near = samples.target[known], min(k, len(known))
        found = np.zeros((len(test), len(samples.classes)))
        for start in range(0, len(test), _ROWS_AT_ONCE):
            similar = test[start : start + _ROWS_AT_ONCE] @ rows.T
            at = np.argsort(-similar, axis=1, kind="stable")[:, :near]
            votes = np.exp((np.take_along_axis(similar, at, 1) - 1) / temperature)
            for code in range(len(samples.classes)):
                part = slice(start, start + len(similar))
                found[part, code] = (votes * (target[at] == code)).sum(1)
        return found / found.sum(1, keepdims=True)

    return probe


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
