"""Scores of a slide's tiles as layers of pictures, and what each layer means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mshisto_ray.drawing.heatmap import Spread
from mshisto_ray.mil.head import Head
from mshisto_ray.mil.predict import HeadPrediction


@dataclass(frozen=True)
class Layer:
    """Scores [N] of a slide's tiles.

    ``name``: of its files; ``label``: beside the colours; ``meaning``: a sentence on
    what the numbers are; ``spread``: how colours run over the scores.
    """

    name: str
    label: str
    scores: np.ndarray
    meaning: str
    spread: Spread


def layers_of(head: Head, prediction: HeadPrediction, rows: slice) -> list[Layer]:
    """Layers of the instances of one slide, the most informative first."""
    layers = []
    if prediction.attention is not None:
        layers.append(_attention("attention", prediction.attention[rows], ""))
    if prediction.class_attention is not None:
        for i, name in enumerate(head.classes):
            scores = prediction.class_attention[rows, i]
            layers.append(_attention(f"attention_{name}", scores, f" for {name}"))
    if prediction.instance_probabilities is not None:
        scores = prediction.instance_probabilities[rows].T
        named = list(zip(head.classes, scores, strict=True))
        # Of two classes the first is the complement of the second.
        kept = named[1:] if len(scores) == 2 else named
        layers += [_probability(name, column) for name, column in reversed(kept)]
    return layers


def _attention(name: str, scores: np.ndarray, of: str) -> Layer:
    text = (
        f"Attention{of}: the weight of each tile in the prediction; those of a bag sum "
        "to 1. It says where the model looks, not what it finds there. "
        "Colours are percentiles among the tiles of this slide, the lower half "
        "transparent."
    )
    mean = float(scores.mean()) if len(scores) else 0.0
    if mean > 0:
        ratio = scores.max() / mean
        text += (
            f" The most attended of {len(scores):,} tiles has {ratio:.3g} times the "
            "mean weight (1: all count alike)."
        )
    return Layer(name, name.replace("_", " ", 1), scores, text, "percentile")


def _probability(name: str, scores: np.ndarray) -> Layer:
    text = (
        f"Probability of {name} that the model gives to each tile by itself, from 0 to "
        "1 on every slide; below 0.5 transparent."
    )
    return Layer(f"instance_{name}", f"instance {name}", scores, text, "absolute")
