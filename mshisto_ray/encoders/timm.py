"""Any network of timm, with local, random or downloaded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mshisto_ray.backbone.network import (
    NetworkEncoder,
    create_network,
    network_digest,
)
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.backbone.taking import Take, taking
from mshisto_ray.backbone.transform import Fit, InputTransform, Interpolation
from mshisto_ray.backbone.weights import download_weights, find_weights, load_weights
from mshisto_ray.config import InputError, Weights
from mshisto_ray.encoders._encoder import Encoder
from mshisto_ray.encoders._known import check_input
from mshisto_ray.encoders._parameters import Channels, Pixels
from mshisto_ray.encoders._recipe import RECIPES, names, read_recipe


def build(
    device: str,
    precision: Precision,
    *,
    model: str,
    weights: Weights,
    seed: int = 0,
    mean: Channels | None = None,
    std: Channels | None = None,
    size: Pixels | None = None,
    fit: Fit = "as_is",
    interpolation: Interpolation = None,
    resize_to: Pixels | None = None,
    take: Take = "pooled",
    **options: Any,
) -> Encoder:
    """Build an encoder of a timm network's features.

    Args:
        device: where it runs.
        precision: of the forward pass.
        model: timm's name.
        weights: a local file (safetensors, or a PyTorch state_dict) or the directory
            that holds it, ``random`` (drawn from ``seed``), or ``pretrained`` (timm
            downloads them).
        seed: of random weights.
        mean: input mean per channel on 0 to 1; timm's for the model if not given.
        std: input standard deviation, likewise.
        size: input size in px for ``resize`` and ``crop``; ``img_size`` among the
            options, else timm's, if not given.
        fit: whether tiles enter as they are, resized, cropped, or both.
        interpolation: of resizing; see ``InputTransform``.
        resize_to: px before the crop of ``resize_crop``.
        take: what is the embedding: ``pooled``, as timm pools, or tokens of a
            transformer: its class token, the mean of its patches, or both.
        options: to timm's constructor (num_classes, pad_type, img_size, ...), layers by
            name (mlp_layer: SwiGLUPacked, act_layer: silu).

    Raises:
        InputError: unknown model or option, weights that do not fit, or weights of a
            published network whose mean and std timm does not know.
    """
    if (fit == "resize_crop") != (resize_to is not None):
        raise InputError("encoder: resize_to goes with fit: resize_crop, and only so")
    if "/" in model:
        raise InputError(
            f"encoder: {model!r} is an address, not timm's name{_at(model)}"
        )
    network = _make_network(model, options, weights, seed)
    known = _known_input(network)
    transform = InputTransform(
        mean=mean or known.mean,
        std=std or known.std,
        size=size or known.size,
        fit=fit,
        interpolation=interpolation,
        resize_to=resize_to,
    )
    warnings = ()
    if weights not in ("pretrained", "random") and None in (mean, std):
        warnings = check_input(network, model, transform)
    architecture = {"model": model, "options": options}
    described = architecture if take == "pooled" else architecture | {"take": take}
    digest = network_digest(network, transform, described)
    taken = taking(network, take)
    encoder = NetworkEncoder(taken, transform, digest, device, precision)
    encoder.warnings = warnings
    return encoder


def _make_network(
    model: str, options: dict[str, Any], weights: str, seed: int
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_network(model, options)
    if weights == "pretrained":
        download_weights(network, model)
    elif weights != "random":
        load_weights(network, find_weights(Path(weights).expanduser()))
    return network


def _known_input(network: nn.Module) -> InputTransform:
    """The input that timm records for a network, of the side that it was built for."""
    # timm takes as long to import as torch, and most commands do without.
    from timm.data.config import resolve_model_data_config

    known = resolve_model_data_config(network)
    size = _built_size(network) or known["input_size"][-1]
    return InputTransform(tuple(known["mean"]), tuple(known["std"]), size, "as_is")


def _at(address: str) -> str:
    """The recipe of a network at an address of a hub, as the end of an error."""
    found = [
        name
        for name in names()
        if (hub := read_recipe(RECIPES / f"{name}.yaml").weights.hub)
        and address.lower().endswith(hub.lower())
    ]
    if not found:
        return ": copy its weights, and give timm's name and options, or a recipe"
    return f": give encoder='{{name: {found[0]}, weights: PATH}}'"


def _built_size(network: nn.Module) -> int | None:
    """Side in px that a transformer was built for, which may not be timm's default."""
    side = getattr(getattr(network, "patch_embed", None), "img_size", None)
    return int(side[-1]) if side else None
