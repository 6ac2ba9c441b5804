"""Heads that others trained, with CLAM or as ABMIL, as heads of ours."""

from __future__ import annotations

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
from mshisto_ray.mil.published import abmil, clam
from mshisto_ray.mil.published.weights import PublishedWeights, plain_names
from mshisto_ray.mil.trained_head import describe_head
from mshisto_ray.representation.normalise import Standardisation

_LAYOUTS = (clam.read, abmil.read)


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


def read_published(path: Path, given: HeadInput, about: Mapping[str, Any]) -> Head:
    """A head of CLAM (SB or MB, gated) or of Ilse's (gated) attention, for ``predict``.

    Same logits and attention as theirs: of a softmax of two logits the difference is
    ours. Embeddings go in as they are: neither standardises anything.

    Args:
        path: safetensors, or a PyTorch file of the state_dict (no code is run).
        given: what the file does not say.
        about: JSON values kept with the head (unit, target, source); the source gets
            the layout's name as ``model``.

    Raises:
        InputError: no such file, weights of another model, or other classes.
    """
    found = _read_layout(path)
    if found.num_classes != len(given.classes):
        raise InputError(
            f"classes: {path} has {found.num_classes} classes, {len(given.classes)} "
            f"given ({', '.join(given.classes)})"
        )
    # Their own training; it decides nothing here but is shown with the head.
    raw = {"pooling": found.pooling, "hidden": found.hidden, "dropout": 0.25}
    config = configs.validate(TrainConfig, raw)
    shape = HeadSignature((found.width,), given.classes, given.kind)
    model = build_model(config, shape).eval()
    try:
        model.load_state_dict(found.weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{path}: weights do not fit a head of {found.model}: {reason}"
        ) from None
    plain = Standardisation(torch.zeros(found.width), torch.ones(found.width))
    fitted = given.kind.restore({}, given.classes)
    content = describe_head(
        shape, config, given.encoder, given.digest, given.scale, None
    )
    content |= {"models": [], "refit": True, "folds": {}, **about}
    content["source"] = {"model": found.model, **content.get("source", {})}
    return Head(
        given.classes,
        (found.width,),
        given.scale,
        None,
        given.encoder,
        None,
        {},
        (HeadModel(None, None, model, plain, fitted),),
        content,
        given.kind,
    )


def _read_layout(path: Path) -> PublishedWeights:
    state = plain_names(read_state(path))
    try:
        found = next(filter(None, (read(state) for read in _LAYOUTS)), None)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except KeyError as error:
        raise InputError(
            f"{path}: a layer is not whole, there is no {error.args[0]}"
        ) from None
    if found is None:
        raise InputError(
            f"{path}: not a head of CLAM with gated attention (attention_net.0, its "
            "attention_a, attention_b, attention_c and classifiers) nor of ABMIL "
            "(attention.0 and attention.2, or attention_V.0, attention_U.0 and "
            "attention_w, and classifier.0); it has "
            f"{', '.join(sorted(state)[:4])}, ..."
        )
    return found


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
