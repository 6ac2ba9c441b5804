"""The layout of Ilse's attention and gated attention (ABMIL)."""

from __future__ import annotations

import re

from mshisto_ray.config import InputError
from mshisto_ray.mil.published.weights import PublishedWeights, State, own_logits

_PLAIN = {"attention.0": "tanh", "attention.2": "score"}
_GATED = {"attention_V.0": "tanh", "attention_U.0": "gate"}
# The authors' code had the one name, then the other.
_SCORES = ("attention_w", "attention_weights")
_INPUT, _CLASSIFIER = "feature_extractor_part2.0", "classifier.0"


def read(state: State) -> PublishedWeights | None:
    """Attention or gated attention with one branch; None: another layout.

    The linear layer before it may be missing: attention then sees embeddings as they
    are. A classifier of one output has a sigmoid, one of several a softmax.

    Source: names of Ilse et al. 2018, the authors' code.

    Raises:
        InputError: weights that have no place in a head on embeddings, as those of the
            convolutions, or attention of several branches.
    """
    layers = {key.rpartition(".")[0] for key in state}
    score = next((name for name in _SCORES if name in layers), None)
    gated = score is not None and set(_GATED) <= layers
    if _CLASSIFIER not in layers or not (gated or set(_PLAIN) <= layers):
        return None
    names = {**_GATED, score: "score"} if gated else dict(_PLAIN)
    ours = {layer: f"pooling.{name}" for layer, name in names.items()}
    if _INPUT in layers:
        ours[_INPUT] = "transform.0"
    _refuse_others(layers - {*ours, _CLASSIFIER})
    weights = {
        f"{name}.{end}": state[f"{layer}.{end}"]
        for layer, name in ours.items()
        for end in ("weight", "bias")
    }
    branches = len(weights["pooling.score.weight"])
    if branches > 1:
        raise InputError(
            f"attention has {branches} branches: only heads with one can be read"
        )
    inner, seen = weights["pooling.tanh.weight"].shape
    hidden = [seen] if _INPUT in layers else []
    width = weights["transform.0.weight"].shape[1] if hidden else seen
    last = state[f"{_CLASSIFIER}.weight"], state[f"{_CLASSIFIER}.bias"]
    weight, bias = own_logits(*last)
    weights |= {"pooling.classifier.weight": weight, "pooling.classifier.bias": bias}
    name = "gated_attention" if gated else "attention"
    pooling = {"name": name, "hidden": inner}
    num = max(2, len(last[0]))
    return PublishedWeights("ABMIL", pooling, hidden, width, num, weights)


def _refuse_others(layers: set[str]) -> None:
    if not layers:
        return
    reads_images = any(re.match(r"feature_extractor_part1\b", x) for x in layers)
    advice = (
        "its convolutions read images: embed with them, and leave them out of the file"
        if reads_images
        else "a head on embeddings has no place for them"
    )
    raise InputError(f"it also has {', '.join(sorted(layers)[:3])}: {advice}")
