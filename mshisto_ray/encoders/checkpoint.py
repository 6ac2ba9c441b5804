"""An encoder directory as pretraining writes it: weights and their description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from torch import nn

from mshisto_ray.backbone.network import (
    NetworkEncoder,
    create_network,
    network_digest,
)
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.backbone.projection import HeadShape, ProjectedNetwork, make_head
from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.backbone.weights import load_weights
from mshisto_ray.config import InputError
from mshisto_ray.encoders._parameters import LocalPath
from mshisto_ray.store.manifest import write_text

# Format version of encoder.json; no other version is read.
_FORMAT = 1
_WEIGHTS, _DESCRIPTION, _CARD = "encoder.safetensors", "encoder.json", "README.md"
_HEAD_WEIGHTS = "projection.safetensors"


def build(
    device: str,
    precision: Precision,
    *,
    path: LocalPath,
    output: Literal["features", "projection"] = "features",
) -> NetworkEncoder:
    """Load the encoder of a directory.

    Args:
        device: where it runs.
        precision: of the forward pass.
        path: directory with ``encoder.safetensors`` and ``encoder.json``.
        output: the network's pooled features, or their projection by pretraining's
            head: the descriptor that distances were trained on.

    Raises:
        InputError: not such a directory, or one of another version; its weights are
            not those it describes.
    """
    directory = Path(path)
    described = _read(directory)
    backbone = described["backbone"]
    network = create_network(backbone["model"], backbone["options"])
    load_weights(network, directory / _WEIGHTS)
    transform = _transform(described)
    digest = network_digest(network, transform, backbone)
    if digest != described["digest"]:
        raise InputError(
            f"encoder: the weights in {directory} are not those its {_DESCRIPTION} "
            "describes; copy both files from the same run"
        )
    if output == "projection":
        network = _project(network, directory, described)
        architecture = backbone | {"projection": described["projection"]}
        digest = network_digest(network, transform, architecture)
    return NetworkEncoder(network, transform, digest, device, precision)


def load_start(network: nn.Module, backbone: Mapping[str, Any], path: Path) -> None:
    """Load an encoder directory's weights into a network that is trained further.

    Args:
        network: made of ``backbone``.
        backbone: ``{model, options}``.
        path: the directory.

    Raises:
        InputError: not such a directory, or one of another backbone.
    """
    held = _read(path)["backbone"]
    if held != dict(backbone):
        raise InputError(
            f"model.weights: {path} holds {held['model']} with {held['options']}, not "
            f"{backbone['model']} with {backbone['options']}: give model.backbone="
            f"{held['model']} model.options='{json.dumps(held['options'])}'"
        )
    load_weights(network, path / _WEIGHTS)


def read_digest(path: Path) -> str:
    """Digest of an encoder directory's weights and input, as ``save`` recorded it."""
    return _read(path)["digest"]


def read_transform(path: Path) -> InputTransform:
    """The input transform of an encoder directory."""
    return _transform(_read(path))


def save(
    directory: Path,
    network: nn.Module,
    transform: InputTransform,
    backbone: Mapping[str, Any],
    dim: int,
    trained_at_mpp: Sequence[float],
    tile_px: int,
    projection: tuple[nn.Module, HeadShape] | None = None,
) -> str:
    """Write an encoder directory, with a card that explains its use elsewhere.

    Returns its digest.

    Args:
        directory: made if absent.
        network: a timm network.
        transform: its input transform.
        backbone: ``{model, options}`` from which timm makes it.
        dim: width of its embeddings.
        trained_at_mpp: scales seen in training, micrometres per pixel.
        tile_px: side of the tiles seen in training.
        projection: the head that it was trained with, and its shape.
    """
    directory.mkdir(parents=True, exist_ok=True)
    digest = network_digest(network, transform, backbone)
    _write_weights(network, directory / _WEIGHTS)
    if projection:
        _write_weights(projection[0], directory / _HEAD_WEIGHTS)
    described = {
        "format": _FORMAT,
        "backbone": dict(backbone),
        "dim": dim,
        "input": transform.describe(),
        "trained_at": {"mpp": list(trained_at_mpp), "tile_px": tile_px},
        "digest": digest,
        "projection": asdict(projection[1]) if projection else None,
    }
    write_text(directory / _DESCRIPTION, json.dumps(described, indent=2) + "\n")
    write_text(directory / _CARD, _card(described))
    return digest


def _write_weights(module: nn.Module, path: Path) -> None:
    state = {k: v.cpu().contiguous() for k, v in module.state_dict().items()}
    safetensors.torch.save_file(state, path)


def _project(
    network: nn.Module, directory: Path, described: Mapping[str, Any]
) -> ProjectedNetwork:
    if not described.get("projection") or not (directory / _HEAD_WEIGHTS).is_file():
        raise InputError(
            f"encoder: {directory} has no {_HEAD_WEIGHTS}: set output=features, or "
            "pretrain the encoder again"
        )
    shape = HeadShape(**described["projection"])
    head = make_head(shape)
    try:
        head.load_state_dict(safetensors.torch.load_file(directory / _HEAD_WEIGHTS))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(
            f"encoder: {directory / _HEAD_WEIGHTS} is not the head that "
            f"{_DESCRIPTION} describes ({error}); copy both files from the same run"
        ) from None
    return ProjectedNetwork(network, head, shape.flat)


def _transform(described: Mapping[str, Any]) -> InputTransform:
    values = dict(described["input"])
    mean, std = tuple(values.pop("mean")), tuple(values.pop("std"))
    return InputTransform(mean, std, **values)


def _read(directory: Path) -> dict[str, Any]:
    description = directory / _DESCRIPTION
    if not description.is_file():
        raise InputError(f"encoder: {directory} has no {_DESCRIPTION}")
    try:
        described = json.loads(description.read_text())
    except ValueError as error:
        raise InputError(f"encoder: {description} is not JSON ({error})") from None
    found = described.get("format") if isinstance(described, dict) else None
    if found != _FORMAT:
        raise InputError(
            f"encoder: {description} is of another version (format {found}; this "
            f"version reads {_FORMAT}): pretrain again, or use the one that wrote it"
        )
    return described


def _card(described: Mapping[str, Any]) -> str:
    """Text that explains how to use the weights, with code for plain timm."""
    backbone, values = described["backbone"], described["input"]
    seen = described["trained_at"]
    options = dict(backbone["options"])
    whole = options.pop("pre_logits", True)
    arguments = "".join(f", {key}={value!r}" for key, value in options.items())
    lines = [
        "import timm",
        *([] if whole else ["import torch"]),
        "from safetensors.torch import load_file",
        "",
        f"network = timm.create_model({backbone['model']!r}{arguments})",
        # Not an option of timm, which always builds these layers.
        *([] if whole else ["network.pre_logits = torch.nn.Identity()"]),
        f"network.load_state_dict(load_file({_WEIGHTS!r}))",
    ]
    scales = ", ".join(f"{mpp:g}" for mpp in seen["mpp"])
    return "\n".join(
        [
            f"# Encoder {described['digest']}",
            "",
            f"`{backbone['model']}`, trained on tiles of {seen['tile_px']} px at "
            f"{scales} um/px; {described['dim']} pooled features. Input: RGB on 0 to "
            f"1, minus {values['mean']}, divided by {values['std']} per channel; size "
            f"{values['size']} px, {values['fit']}.",
            "",
            "In mshisto_ray: `encoder: {name: checkpoint, path: DIR}`. In plain timm:",
            "",
            "```python",
            *lines,
            "```",
            "",
        ]
    )
