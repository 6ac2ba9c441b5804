"""File of the differences that augmentation of tiles makes in their embeddings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mshisto_ray.config import InputError

_KEY = "differences"
_ABOUT = "mshisto_ray"


def write_differences(
    path: Path, values: np.ndarray, slides: np.ndarray, about: Mapping[str, Any]
) -> None:
    """Write differences.

    Args:
        path: file, in an existing folder.
        values: embedding of an augmented tile minus that of the tile, [M, D].
        slides: slide_id of each, [M].
        about: JSON values on the encoder, the tiles and the augmentation.
    """
    names, code = np.unique(slides.astype(str), return_inverse=True)
    content = json.dumps({**about, "slides": names.tolist()})
    tensors = {_KEY: values.astype(np.float32), "slide": code.astype(np.int64)}
    save_file(tensors, path, {_ABOUT: content})


def read_differences(path: Path, held_out: Collection[str] = ()) -> torch.Tensor:
    """Differences [M, D], float32, without those of held-out slides.

    Raises:
        InputError: no such file, or one without differences that may be used.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[_ABOUT])
            values, slide = file.get_tensor(_KEY), file.get_tensor("slide")
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(
            f"noise.path: {path} is no file of differences ({error}): make one with "
            "mshisto augmentation"
        ) from None
    kept = [i for i, name in enumerate(about["slides"]) if name not in set(held_out)]
    found = values[torch.isin(slide, torch.tensor(kept, dtype=torch.int64))]
    if len(found) < 2:
        raise InputError(
            f"noise.path: {path} has fewer than two differences of slides outside the "
            "test and validation part of a fold: make it from tiles of more slides"
        )
    return found


def read_about(path: Path) -> dict[str, Any]:
    """What ``write_differences`` wrote about the file."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[_ABOUT])


def file_digest(path: Path) -> str:
    """Digest of a file's content."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
