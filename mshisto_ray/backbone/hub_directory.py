"""A network in a directory as the transformers library writes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mshisto_ray.backbone.taking import Take
from mshisto_ray.config import InputError

_CONFIG, _PREPROCESSING = "config.json", "preprocessor_config.json"
# Of config.json: what says nothing of the network itself.
_INCIDENTAL = ("_name_or_path", "transformers_version", "architectures", "auto_map")
# Weights of heads, which embedding does without.
_HEADS = ("classifier.", "head.", "lm_head.", "pooler.", "cls_classifier.")
_RESAMPLING = {2: "bilinear", 3: "bicubic"}


class HubNetwork(nn.Module):
    """A vision network of transformers with the two methods that embedding calls."""

    def __init__(self, network: nn.Module, take: Take):
        super().__init__()
        self.network, self._take = network, take
        registers = getattr(network.config, "num_register_tokens", 0)
        self._num_extra = 1 + int(registers or 0)  # pyright: ignore[reportArgumentType]

    def forward_features(self, x: torch.Tensor) -> Any:
        """The outputs for normalised images [B, 3, H, W]."""
        try:
            return self.network(pixel_values=x)
        except ValueError as error:  # an image of another size
            raise RuntimeError(str(error)) from None

    def forward_head(self, maps: Any, pre_logits: bool) -> torch.Tensor:
        """What is taken of the outputs, [B, D]."""
        if self._take == "pooled":
            pooled = getattr(maps, "pooler_output", None)
            if pooled is None:
                raise InputError(
                    "encoder: the network pools nothing itself; set take: class_token, "
                    "patch_mean or class_token_and_patch_mean"
                )
            return pooled.flatten(1)
        tokens = maps.last_hidden_state
        if tokens.ndim != 3:
            raise InputError(
                f"encoder: take: {self._take}: the network gives maps "
                f"{tuple(tokens.shape)}, not tokens; set take: pooled"
            )
        patches = tokens[:, self._num_extra :].mean(1)
        both = {"class_token": tokens[:, 0], "patch_mean": patches}
        return both.get(self._take, torch.cat([tokens[:, 0], patches], 1))


def read_network(directory: Path, take: Take) -> HubNetwork:
    """The network of a directory; code in the directory is never run.

    Raises:
        InputError: transformers is not installed, not such a directory, a network that
            needs code of its own, or weights that do not fit.
    """
    config = _read(directory / _CONFIG)
    try:
        import transformers
        from transformers.utils import logging
    except ImportError:
        raise InputError(
            "encoder: transformers is not installed: pip install "
            "'mshisto-ray[transformers]'"
        ) from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, report = transformers.AutoModel.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # of any of the libraries below it
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"encoder: {directory} ({config.get('model_type', 'no model_type')}) is no "
            f"network that transformers {transformers.__version__} builds without the "
            f"directory's own code ({type(error).__name__}: {first})"
        ) from None
    _check(report, directory, take)
    return HubNetwork(network, take)


def _check(report: dict[str, Any], directory: Path, take: Take) -> None:
    """Refuse weights that the network lacks or that it has no place for."""
    missing, surplus = (
        sorted(map(str, report[key])) for key in ("missing_keys", "unexpected_keys")
    )
    if take != "pooled":  # what it pools itself is not used
        missing = [name for name in missing if not name.startswith("pooler.")]
    surplus = [name for name in surplus if not name.startswith(_HEADS)]
    problems = [f"lacks {name}" for name in missing]
    problems += [f"also has {name}" for name in surplus]
    problems += [f"has another shape of {one}" for one in report["mismatched_keys"]]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(
            f"encoder: the weights in {directory} do not fit its {_CONFIG}: "
            f"{'; '.join(problems[:3])}{more}: a network with code of its own, or "
            "files of two networks"
        )


def read_preprocessing(directory: Path) -> dict[str, Any]:
    """Mean, std, size and resizing that a directory gives, as far as it does."""
    path = directory / _PREPROCESSING
    if not path.is_file():
        return {}
    values = _read(path)
    found: dict[str, Any] = {}
    # A step that it switches off keeps its numbers in the file.
    normalises = values.get("do_normalize", True)
    for key, name, none in (("mean", "image_mean", 0.0), ("std", "image_std", 1.0)):
        if not normalises:
            found[key] = (none,) * 3
        elif values.get(name):
            found[key] = tuple(values[name])
    resized = _side(values.get("size")) if values.get("do_resize", True) else None
    crops = values.get("do_center_crop")
    cropped = _side(values.get("crop_size")) if crops else None
    if cropped and resized and cropped != resized:
        found |= {"size": cropped, "fit": "resize_crop", "resize_to": resized}
    elif cropped and not resized:
        found |= {"size": cropped, "fit": "crop"}
    elif resized:
        found |= {"size": resized, "fit": "resize"}
    if found.get("fit") in ("resize", "resize_crop"):
        resample = int(values.get("resample") or 2)
        found["interpolation"] = _RESAMPLING.get(resample, "bilinear")
    return found


def _side(size: Any) -> int | None:
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return int(size) if size else None


def directory_digest(directory: Path, described: dict[str, Any]) -> str:
    """Digest of a directory's weights and config, and of how they are used."""
    values = _read(directory / _CONFIG)
    config = {key: v for key, v in values.items() if key not in _INCIDENTAL}
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([described, config], sort_keys=True).encode())
    files = sorted(directory.glob("*.safetensors")) or sorted(directory.glob("*.bin"))
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "blake2b").digest())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"encoder: no {path.name} in {path.parent}: give a directory as "
            "transformers writes it, with config.json and model.safetensors"
        )
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"encoder: {path} is not JSON ({error})") from None
    return values if isinstance(values, dict) else {}
