"""Any network of timm, with local, random or downloaded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from timm.data.config import resolve_model_data_config

from mshisto_ray.backbone.network import (
    InputTransform,
    NetworkEncoder,
    create_network,
    download_weights,
    load_weights,
    network_digest,
)
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.encoders._encoder import Encoder

Channels = Annotated[tuple[float, float, float], Field()]


def build(
    device: str,
    precision: Precision,
    *,
    model: str,
    weights: str,
    seed: int = 0,
    mean: Channels | None = None,
    std: Channels | None = None,
    size: Annotated[int, Field(ge=16)] | None = None,
    fit: Literal["as_is", "resize", "crop"] = "as_is",
    **options: Any,
) -> Encoder:
    """Build an encoder of a timm network's pooled features.

    Args:
        device: where it runs.
        precision: of the forward pass.
        model: timm's name.
        weights: a local file (safetensors, or a PyTorch state_dict), ``random``
            (drawn from ``seed``), or ``pretrained`` (timm downloads them).
        seed: of random weights.
        mean: input mean per channel on 0 to 1; timm's for the model if not given.
        std: input standard deviation, likewise.
        size: input size in px for ``resize`` and ``crop``; timm's if not given.
        fit: whether tiles enter as they are, resized or cropped.
        options: to timm's constructor (num_classes, pad_type, img_size, ...).

    Raises:
        InputError: unknown model or option, weights that do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_network(model, options)
    if weights == "pretrained":
        download_weights(network)
    elif weights != "random":
        load_weights(network, Path(weights).expanduser())
    known = resolve_model_data_config(network)
    transform = InputTransform(
        mean=mean or tuple(known["mean"]),
        std=std or tuple(known["std"]),
        size=size or known["input_size"][-1],
        fit=fit,
    )
    architecture = {"model": model, "options": options}
    digest = network_digest(network, transform, architecture)
    return NetworkEncoder(network, transform, digest, device, precision)
