"""The caption of the tables of Tan 2023: how their numbers were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def caption(settings: Mapping[str, Any], has_area: bool) -> str:
    """The text below the tables: data, model, training, folds."""
    area = (
        "Annotated area: the same models on test slides' tiles of "
        f"{settings['annotation']!r} (at least {settings['min_annotated']:g} of each "
        "inside it); n: slides that have any. "
    )
    folds = {
        "drawn": f"{settings['folds']} folds by patient, drawn in each repeat. An "
        "encoder pretrained with these slides' labels has seen what it is tested on: "
        "scale_* and shared should come from other patients, or study.split be given",
        "given": "the cohort's folds; scale_* and shared should be encoders that "
        "learned from its training patients alone",
        "per_fold": "the cohort's folds, encoders of each",
    }
    return (
        "Published: intrahepatic cholangiocarcinoma, 332 slides, not these. Level "
        f"0 is {settings['scales'][0]:g} um/px. {settings['bags']} random bags of "
        f"{settings['bag_size']} tiles of each slide, majority vote; mean, two ReLU "
        "layers of 512 (the second of the paper has no ReLU), softmax; "
        f"{_optimiser(settings)}{settings['epochs']} epochs; "
        f"{settings['repeats']} repeats, 95 % score "
        "intervals over patients, gains paired; above chance: the interval of the "
        "repeat's own AUROC lies above .5; trained: the training loss fell below .9 of "
        f"a constant's. {_of_steps(settings)}"
        f"{area if has_area else ''}"
        f"Folds: {folds[settings['split']]}.\n"
    )


def _optimiser(settings: Mapping[str, Any]) -> str:
    """How a head learns, and from what, where not from embeddings as they are."""
    name = {
        "sgd": f"SGD, lr {settings['lr']:g}, momentum 0.9 (the paper gives none), ",
        "adam": f"Adam, lr {settings['lr']:g}, ",
    }[settings["optimiser"]]
    components = settings["components"]
    if not components:
        return name
    return f"on {components} principal components of each scale's tiles; {name}"


def _of_steps(settings: Mapping[str, Any]) -> str:
    """What a step holds, where it is not as many random bags as a slide has."""
    num = settings["slides_per_step"]
    if not settings["together"]:
        return f"A step holds random bags as of {num} slides. " if num > 1 else ""
    whose = "one slide" if num == 1 else f"{num} slides"
    return f"A step holds all random bags of {whose}. "
