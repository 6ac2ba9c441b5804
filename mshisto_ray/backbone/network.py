"""An encoder made of a timm network and an input transform."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from mshisto_ray.backbone.layers import named_layers
from mshisto_ray.backbone.precision import Precision, computing
from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.config import InputError

# Arguments of timm that load or download weights, past the checks here.
_LOADING = {"pretrained", "pretrained_cfg", "checkpoint_path", "cache_dir"}


class NetworkEncoder:
    """Pooled features of a network, in evaluation mode.

    ``warnings``: what a user of its embeddings should know, a line each.
    """

    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        network: nn.Module,
        transform: InputTransform,
        digest: str,
        device: str,
        precision: Precision,
    ):
        # From `network_digest`; passed in, because hashing every weight takes time.
        self.digest = digest
        self.network = network.eval().to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.transform = transform
        self._device = device
        self._precision: Precision = precision
        self._pooled = pooled_features
        self.dim = self._probe()

    def compile(self) -> None:
        """Compile the forward pass with torch; rounding may change."""
        self._pooled = torch.compile(pooled_features)

    @torch.inference_mode()
    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] RGB to float32 [B, D]."""
        pixels = torch.from_numpy(np.ascontiguousarray(tiles))
        if self._device.startswith("cuda"):
            # Page-locked memory is copied asynchronously, by the GPU itself.
            pixels = pixels.pin_memory()
        pixels = pixels.to(self._device, non_blocking=True)
        with computing(self._precision, self._device):
            features = self.features(pixels)
        return features.float().cpu().numpy()

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """uint8 [B, H, W, 3] on the device to embeddings [B, D]."""
        batch = self.transform.apply(tiles)
        batch = batch.contiguous(memory_format=torch.channels_last)
        return self._pooled(self.network, batch)

    def _probe(self) -> int:
        size = self.transform.size
        try:
            shape = self(np.zeros((1, size, size, 3), np.uint8)).shape
        except (AssertionError, RuntimeError) as error:
            raise InputError(
                f"encoder: the network does not take {size} px tiles ({error}); set "
                "size and fit (resize or crop)"
            ) from None
        if len(shape) != 2:
            given = " x ".join(map(str, shape[1:]))
            raise InputError(
                f"encoder: the network gives {given} values a tile, not one vector "
                "(global_pool: ''?); set take: class_token, patch_mean or "
                "class_token_and_patch_mean, or another global_pool"
            )
        return shape[1]


def pooled_features(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Features before the classifier, [B, 3, H, W] to [B, D]."""
    maps = network.forward_features(batch)  # pyright: ignore[reportCallIssue]
    return network.forward_head(maps, pre_logits=True)  # pyright: ignore[reportCallIssue]


def create_network(model: str, options: Mapping[str, Any]) -> nn.Module:
    """A timm network without weights; ``options`` go to its constructor.

    Layers are given by name (``layers.named_layers``). One option is not timm's:
    ``pre_logits: false`` removes the fully connected layers that VGG has before its
    classifier, so that its features are the pooled maps.

    Raises:
        InputError: timm has no such network, or it does not take an option.
    """
    loading = sorted(_LOADING & options.keys())
    if loading:
        raise InputError(
            f"encoder: {', '.join(loading)}: weights are not loaded by options; give "
            "weights"
        )
    given = named_layers(options)
    keeps_pre_logits = given.pop("pre_logits", True)
    import timm  # takes as long to import as torch, and most commands do without

    if not timm.is_model(model):
        near = ", ".join(timm.list_models(f"*{model.split('_')[0]}*")[:8])
        raise InputError(
            f"encoder: timm has no {model!r} of its own; similar: {near or 'none'}"
        )
    try:
        network = timm.create_model(model, pretrained=False, **given)
    except (TypeError, KeyError, RuntimeError, AssertionError) as error:
        raise InputError(f"encoder: {model} does not take an option: {error}") from None
    if not keeps_pre_logits:
        if not hasattr(network, "pre_logits"):
            raise InputError(f"encoder: {model} has no pre_logits to remove")
        network.pre_logits = nn.Identity()
    return network


def network_digest(
    network: nn.Module, transform: InputTransform, architecture: Mapping[str, Any]
) -> str:
    """Digest of weights, architecture and input transform."""
    digest = hashlib.blake2b(digest_size=16)
    described = {
        "architecture": dict(architecture),
        "transform": transform.describe(),
    }
    digest.update(json.dumps(described, sort_keys=True).encode())
    for name, value in sorted(network.state_dict().items()):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
