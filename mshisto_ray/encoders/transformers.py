"""A directory as the transformers library writes it: ViT, DINOv2, Swin, ConvNeXt..."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mshisto_ray.backbone.hub_directory import (
    directory_digest,
    read_network,
    read_preprocessing,
)
from mshisto_ray.backbone.network import NetworkEncoder
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.backbone.taking import Take
from mshisto_ray.backbone.transform import Fit, InputTransform, Interpolation
from mshisto_ray.config import InputError
from mshisto_ray.encoders._encoder import Encoder
from mshisto_ray.encoders._parameters import Channels, LocalPath, Pixels


def build(
    device: str,
    precision: Precision,
    *,
    path: LocalPath,
    take: Take = "class_token",
    mean: Channels | None = None,
    std: Channels | None = None,
    size: Pixels | None = None,
    fit: Fit | None = None,
    interpolation: Interpolation = None,
    resize_to: Pixels | None = None,
) -> Encoder:
    """Build the encoder of a directory; its own code is never run.

    Args:
        device: where it runs.
        precision: of the forward pass.
        path: directory with ``config.json`` and weights.
        take: what is the embedding: class token, mean of the patches, both, or what
            the network pools itself.
        mean: input mean per channel on 0 to 1; of ``preprocessor_config.json`` if not
            given, as are the others.
        std: input standard deviation, likewise.
        size: input size in px.
        fit: whether tiles enter as they are, resized, cropped, or both.
        interpolation: of resizing; see ``InputTransform``.
        resize_to: px before the crop of ``resize_crop``.

    Raises:
        InputError: not such a directory, weights that do not fit, no mean and std, or
            transformers is not installed.
    """
    directory = Path(path)
    given = {
        "mean": mean,
        "std": std,
        "size": size,
        "fit": fit,
        "interpolation": interpolation,
        "resize_to": resize_to,
    }
    values: dict[str, Any] = {"fit": "as_is"} | read_preprocessing(directory)
    if fit is not None:  # its own resizing goes with its own fit
        values = {k: v for k, v in values.items() if k in ("mean", "std", "size")}
    values |= {key: value for key, value in given.items() if value is not None}
    lacking = [key for key in ("mean", "std", "size") if key not in values]
    if lacking:
        raise InputError(
            f"encoder: {directory} has no preprocessor_config.json with "
            f"{', '.join(lacking)}: give them "
            "as the network's card says"
        )
    network = read_network(directory, take)
    transform = InputTransform(**values)
    described = {"take": take, "transform": transform.describe()}
    digest = directory_digest(directory, described)
    return NetworkEncoder(network, transform, digest, device, precision)
