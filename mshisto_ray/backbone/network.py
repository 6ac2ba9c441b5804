"""An encoder made of a timm network and an input transform."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from mshisto_ray.backbone.precision import Precision
from mshisto_ray.config import InputError

# Prefixes that other tools give to the weights of a wrapped network.
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "teacher.", "student.")


@dataclass(frozen=True)
class InputTransform:
    """The transform from uint8 RGB to the input that the network was trained on.

    ``mean`` and ``std`` per channel, on a scale of 0 to 1. ``fit``: tiles enter
    ``as_is``, are resized (bicubic, antialiased) or cropped in the centre to
    ``size`` px.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    fit: Literal["as_is", "resize", "crop"]


class NetworkEncoder:
    """Pooled features of a network, in evaluation mode."""

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
        self._transform = transform
        self._device = device
        self._precision: Precision = precision
        self._mean = torch.tensor(transform.mean, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(transform.std, device=device).view(1, 3, 1, 1) * 255
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
        half = self._precision == "bfloat16"
        kind = self._device.split(":")[0]
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            features = self.features(pixels)
        return features.float().cpu().numpy()

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """uint8 [B, H, W, 3] on the device to embeddings [B, D]."""
        # A [B, H, W, 3] array seen as [B, 3, H, W] is channels_last already.
        batch = (tiles.permute(0, 3, 1, 2).float() - self._mean) / self._std
        return self._pooled(self.network, _fit(batch, self._transform))

    def _probe(self) -> int:
        size = self._transform.size
        try:
            return self(np.zeros((1, size, size, 3), np.uint8)).shape[1]
        except (AssertionError, RuntimeError) as error:
            raise InputError(
                f"encoder: the network does not take {size} px tiles ({error}); set "
                "size and fit (resize or crop)"
            ) from None


def pooled_features(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Features before the classifier, [B, 3, H, W] to [B, D]."""
    maps = network.forward_features(batch)  # pyright: ignore[reportCallIssue]
    return network.forward_head(maps, pre_logits=True)  # pyright: ignore[reportCallIssue]


def _fit(batch: torch.Tensor, transform: InputTransform) -> torch.Tensor:
    size = transform.size
    if transform.fit == "as_is" or batch.shape[-2:] == (size, size):
        return batch
    if transform.fit == "crop":
        top, left = (batch.shape[-2] - size) // 2, (batch.shape[-1] - size) // 2
        if min(top, left) < 0:
            raise InputError(
                f"encoder: cannot crop {batch.shape[-1]} px tiles to {size} px; set "
                "fit: resize, or a smaller size"
            )
        return batch[..., top : top + size, left : left + size]
    return functional.interpolate(batch, (size, size), mode="bicubic", antialias=True)


def download_weights(network: nn.Module) -> None:
    """Load timm's own weights of a network, from its cache or the network.

    Raises:
        InputError: there are none, or they cannot be had from here.
    """
    from timm.models import load_pretrained

    try:
        load_pretrained(network)  # pyright: ignore[reportArgumentType]
    except Exception as error:  # of any library between here and the server
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"weights=pretrained: cannot be downloaded ({type(error).__name__}: "
            f'{first}): on a machine with a connection run python -c "import timm; '
            'timm.create_model(NAME, pretrained=True)" and copy its file, then give '
            "weights=/path/to/file"
        ) from None


def create_network(model: str, options: Mapping[str, Any]) -> nn.Module:
    """A timm network without weights; ``options`` go to its constructor.

    One option is not timm's: ``pre_logits: false`` removes the fully connected layers
    that VGG has before its classifier, so that its features are the pooled maps.
    """
    given = dict(options)
    keeps_pre_logits = given.pop("pre_logits", True)
    import timm  # takes as long to import as torch, and most commands do without

    try:
        network = timm.create_model(model, pretrained=False, **given)
    except RuntimeError as error:
        near = ", ".join(timm.list_models(f"*{model.split('_')[0]}*")[:8])
        raise InputError(
            f"encoder: timm has no {model!r} ({error}); similar: {near or 'none'}"
        ) from None
    except TypeError as error:
        raise InputError(f"encoder: {model} does not take an option: {error}") from None
    if not keeps_pre_logits:
        if not hasattr(network, "pre_logits"):
            raise InputError(f"encoder: {model} has no pre_logits to remove")
        network.pre_logits = nn.Identity()
    return network


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights strictly; any mismatch is an error that lists the differences.

    Safetensors, or a PyTorch file read with ``weights_only=True``.

    Raises:
        InputError: no such file, not safe to read, or names or shapes do not fit.
    """
    state = _strip(read_state(path), set(network.state_dict()))
    wanted = network.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    surplus = sorted(state.keys() - wanted.keys())
    shapes = [
        f"{name} is {tuple(state[name].shape)} in the file, "
        f"{tuple(wanted[name].shape)} in the network"
        for name in sorted(wanted.keys() & state.keys())
        if state[name].shape != wanted[name].shape
    ]
    problems = []
    for what, names in (("lacks", missing), ("also has", surplus)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            problems.append(f"{what} {', '.join(names[:3])}{more}")
    problems += shapes[:3]
    if problems:
        raise InputError(
            f"encoder: {path} does not fit the network: {'; '.join(problems)}. Give "
            "the options it was trained with (num_classes, img_size, pad_type, ...), "
            "or another model"
        )
    network.load_state_dict({k: v.to(wanted[k].dtype) for k, v in state.items()})


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a weights file; code in it is never run."""
    if not path.is_file():
        raise InputError(f"encoder: no such weights file: {path}")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise InputError(
                f"encoder: {path} is not a safetensors file ({error}): truncated, or a "
                "git LFS pointer? copy it again"
            ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"encoder: {path} cannot be read as plain weights "
            f"({type(error).__name__}); save it as safetensors or as a state_dict"
        ) from None
    for key in ("state_dict", "model", "teacher"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}


def _strip(state: dict[str, torch.Tensor], wanted: set[str]) -> dict[str, torch.Tensor]:
    """Remove the prefixes of wrappers from the names, unless two would coincide."""

    def bare(name: str) -> str:
        while name not in wanted:
            prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
            if prefix is None:
                return name
            name = name.removeprefix(prefix)
        return name

    stripped = {bare(name): value for name, value in state.items()}
    return stripped if len(stripped) == len(state) else state


def network_digest(
    network: nn.Module, transform: InputTransform, architecture: Mapping[str, Any]
) -> str:
    """Digest of weights, architecture and input transform."""
    digest = hashlib.blake2b(digest_size=16)
    described = {"architecture": dict(architecture), "transform": asdict(transform)}
    digest.update(json.dumps(described, sort_keys=True).encode())
    for name, value in sorted(network.state_dict().items()):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
