"""The layout of CLAM's checkpoints."""

from __future__ import annotations

import re

import torch

from mshisto_ray.config import InputError
from mshisto_ray.mil.published.weights import PublishedWeights, State, own_logits

_ATTENTION = re.compile(r"attention_net\.(\d+)\.attention_([abc])(\.0)?\.(weight|bias)")
# How CLAM's parts are called in ours.
_PARTS = {"a": "tanh", "b": "gate", "c": "score"}


def read(state: State) -> PublishedWeights | None:
    """CLAM-SB or CLAM-MB with gated attention; None: another layout.

    Its linear layer, attention, classifiers and instance classifiers become those of
    the pooling ``clam``.

    Source: names of Lu et al. 2021 (CLAM), the authors' code.
    """
    attention = {m[2]: key for key in state if (m := _ATTENTION.fullmatch(key))}
    if "attention_net.0.weight" not in state or set(attention) != set("abc"):
        return None
    hidden, width = state["attention_net.0.weight"].shape
    layer = attention["a"].rpartition(".")[0]
    per_class = "classifiers.weight" not in state
    inner = state[f"{layer}.weight"].shape[0]
    num = len(_classifier(state)[0])
    pooling = {"name": "clam", "hidden": inner, "per_class": per_class}
    ours = _translate(state, per_class)
    return PublishedWeights("CLAM", pooling, [hidden], width, num, ours)


def _classifier(state: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [C, D] and biases [C] of the bag's classes."""
    if "classifiers.weight" in state:
        return state["classifiers.weight"], state["classifiers.bias"]
    return _stacked(state, "classifiers")


def _stacked(state: State, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Layers ``name.0``, ``name.1``, ... below each other."""
    num = len({key for key in state if re.fullmatch(rf"{name}\.\d+\.weight", key)})
    layers = [f"{name}.{i}" for i in range(num)]
    if not all(f"{layer}.weight" in state for layer in layers) or not layers:
        raise InputError(f"not a CLAM head: no {name}.0, {name}.1, ...")
    parts = [[state[f"{x}.{end}"] for x in layers] for end in ("weight", "bias")]
    return torch.cat(parts[0]), torch.cat(parts[1])


def _translate(state: State, per_class: bool) -> dict[str, torch.Tensor]:
    """CLAM's weights by our names."""
    weight, bias = _classifier(state)
    if not per_class:
        weight, bias = own_logits(weight, bias)
    clusters = _stacked(state, "instance_classifiers")
    ours = {
        "transform.0.weight": state["attention_net.0.weight"],
        "transform.0.bias": state["attention_net.0.bias"],
        "pooling.pooling.classifier.weight": weight,
        "pooling.pooling.classifier.bias": bias,
        "pooling.clusters.weight": clusters[0],
        "pooling.clusters.bias": clusters[1],
    }
    for key, value in state.items():
        if match := _ATTENTION.fullmatch(key):
            ours[f"pooling.pooling.{_PARTS[match[2]]}.{match[4]}"] = value
    return ours
