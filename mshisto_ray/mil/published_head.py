"""Heads that were trained with CLAM, as heads of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mshisto_ray import config as configs
from mshisto_ray.backbone.weights import read_state
from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import Target
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold import build_model
from mshisto_ray.mil.head import Head, HeadModel, HeadSignature
from mshisto_ray.mil.trained_head import describe_head
from mshisto_ray.representation.normalise import Standardisation

_ATTENTION = re.compile(r"attention_net\.(\d+)\.attention_([abc])(\.0)?\.(weight|bias)")
# How CLAM's parts are called in ours.
_PARTS = {"a": "tanh", "b": "gate", "c": "score"}


@dataclass(frozen=True)
class HeadInput:
    """What a published head takes and gives.

    ``classes``: in the order of its outputs; ``encoder``, ``digest``: of the embeddings
    that it was trained on, as a directory records them; ``scale``: um/px.
    """

    classes: tuple[str, ...]
    kind: Target
    encoder: Mapping[str, Any]
    digest: str
    scale: float


def read_clam(path: Path, given: HeadInput, about: Mapping[str, Any]) -> Head:
    """A head of CLAM-SB or CLAM-MB with gated attention, for ``predict``.

    Its linear layer, attention, classifiers and instance classifiers become those of
    the pooling ``clam``; of two classes of CLAM-SB the difference of both logits is
    ours. Embeddings go in as they are: CLAM standardises nothing.

    Args:
        path: safetensors, or a PyTorch file of the state_dict (no code is run).
        given: what the file does not say.
        about: JSON values kept with the head (unit, target, source).

    Raises:
        InputError: no such file, weights of another model, or other classes.
    """
    state = _plain_names(read_state(path))
    config = _config_of(path, state)
    width = state["attention_net.0.weight"].shape[1]
    found = len(_classifier(state)[0])
    if found != len(given.classes):
        raise InputError(
            f"classes: {path} has {found} classes, {len(given.classes)} given "
            f"({', '.join(given.classes)})"
        )
    shape = HeadSignature((width,), given.classes, given.kind)
    model = build_model(config, shape).eval()
    try:
        model.load_state_dict(_translate(state, config))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path}: weights do not fit a CLAM head: {reason}") from None
    plain = Standardisation(torch.zeros(width), torch.ones(width))
    fitted = given.kind.restore({}, given.classes)
    content = describe_head(
        shape, config, given.encoder, given.digest, given.scale, None
    )
    content |= {"models": [], "refit": True, "folds": {}, **about}
    return Head(
        given.classes,
        (width,),
        given.scale,
        None,
        given.encoder,
        None,
        {},
        (HeadModel(None, None, model, plain, fitted),),
        content,
        given.kind,
    )


def _plain_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names without those of a wrapped model, nor of CLAM's parallel modules."""
    names = {key: key.removeprefix("module.").removeprefix("model.") for key in state}
    return {names[k].replace(".module.", "."): v.float() for k, v in state.items()}


def _config_of(path: Path, state: Mapping[str, torch.Tensor]) -> TrainConfig:
    attention = {m[2]: key for key in state if (m := _ATTENTION.fullmatch(key))}
    if "attention_net.0.weight" not in state or set(attention) != set("abc"):
        raise InputError(
            f"{path}: not a CLAM head with gated attention: attention_net.0 and its "
            "attention_a, attention_b, attention_c are wanted, it has "
            f"{', '.join(sorted(state)[:4])}, ..."
        )
    layer = attention["a"].rpartition(".")[0]
    pooling = {
        "name": "clam",
        "hidden": state[f"{layer}.weight"].shape[0],
        "per_class": "classifiers.weight" not in state,
    }
    hidden = [state["attention_net.0.weight"].shape[0]]
    # CLAM's own training; it decides nothing here but is shown with the head.
    raw = {"pooling": pooling, "hidden": hidden, "dropout": 0.25}
    return configs.validate(TrainConfig, raw)


def _classifier(
    state: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [C, D] and biases [C] of the bag's classes."""
    if "classifiers.weight" in state:
        return state["classifiers.weight"], state["classifiers.bias"]
    return _stacked(state, "classifiers")


def _stacked(
    state: Mapping[str, torch.Tensor], name: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Layers ``name.0``, ``name.1``, ... below each other."""
    num = len({key for key in state if re.fullmatch(rf"{name}\.\d+\.weight", key)})
    layers = [f"{name}.{i}" for i in range(num)]
    if not all(f"{layer}.weight" in state for layer in layers) or not layers:
        raise InputError(f"not a CLAM head: no {name}.0, {name}.1, ...")
    parts = [[state[f"{x}.{end}"] for x in layers] for end in ("weight", "bias")]
    return torch.cat(parts[0]), torch.cat(parts[1])


def _translate(
    state: Mapping[str, torch.Tensor], config: TrainConfig
) -> dict[str, torch.Tensor]:
    """CLAM's weights by our names."""
    weight, bias = _classifier(state)
    if len(weight) == 2 and not config.pooling.parameters["per_class"]:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
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


def class_names(given: Sequence[str]) -> tuple[str, ...]:
    """The classes, checked.

    Raises:
        InputError: fewer than two, or one twice.
    """
    if len(given) < 2 or len(set(given)) < len(given):
        raise InputError(
            f"classes: give two or more different names, got {list(given)}"
        )
    return tuple(given)
