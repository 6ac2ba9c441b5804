"""Logistic regression, its strength chosen on validation."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression

from mshisto_ray.learning.metrics import balanced_accuracy
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.probes import Fold, Probe, standardised

Strength = Annotated[float, Field(gt=0)]


def build(
    *,
    strengths: tuple[Strength, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    iterations: Annotated[int, Field(ge=1)] = 500,
) -> Probe:
    """scikit-learn's LogisticRegression with balanced class weights.

    Of ``strengths``, its C, the one of best balanced accuracy on validation is taken
    (of equal ones the smallest; without validation tiles the middle one), and fitted
    again on training and validation tiles.
    """

    def probe(samples: TileSamples, fold: Fold) -> np.ndarray:
        best = strengths[len(strengths) // 2]
        if len(fold.validation):
            train, held = standardised(samples, fold.train, fold.train, fold.validation)
            target = samples.target[fold.train]
            wanted = samples.target[fold.validation]
            scores = [
                balanced_accuracy(_probabilities(_fit(c, train, target), held, samples),
                                  wanted)
                for c in strengths
            ]  # fmt: skip
            best = strengths[int(np.argmax(scores))]
        known = np.sort(np.concatenate([fold.train, fold.validation]))
        rows, test = standardised(samples, known, known, fold.test)
        return _probabilities(_fit(best, rows, samples.target[known]), test, samples)

    def _fit(c: float, rows: np.ndarray, target: np.ndarray) -> LogisticRegression:
        model = LogisticRegression(C=c, class_weight="balanced", max_iter=iterations)
        return model.fit(rows, target)

    return probe


def _probabilities(
    model: LogisticRegression, rows: np.ndarray, samples: TileSamples
) -> np.ndarray:
    found = np.zeros((len(rows), len(samples.classes)))
    found[:, model.classes_] = model.predict_proba(rows)
    return found
