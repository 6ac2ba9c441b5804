"""What Tan 2023's rows cost: time of a unit, and the size of their encoders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import count_tiles

# Multiplications and additions a second of one CPU core.
_RATE = 3e10
# Of batch norm; not trained.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# A backward pass costs twice a forward one.
_PASSES = 3


def core_hours(
    directories: Sequence[EmbeddingDirectory],
    scales: Sequence[float],
    settings: Mapping[str, Any],
    attends: bool,
    num_models: int,
) -> float:
    """Estimated hours of one CPU core that a unit takes.

    Args:
        directories: embeddings of each scale, coarsest first.
        scales: um/px, coarsest first.
        settings: of the study.
        attends: whether tiles attend to their finer ones; else they are only read.
        num_models: fold models of the unit.
    """
    dims = [directory.dim for directory in directories]
    tiles = [1.0]
    for coarse, fine in itertools.pairwise(scales):
        tiles.append(tiles[-1] * round(coarse / fine) ** 2)
    each = sum(n * dim for n, dim in zip(tiles, dims, strict=True))
    if attends:
        width, inner = settings["width"], settings["heads"] * settings["head_dim"]
        for place in range(len(scales) - 1):
            coarse = 2 * dims[place] * width + 2 * width * inner
            fine = dims[place + 1] * width + 2 * width * inner
            each += tiles[place] * coarse + tiles[place + 1] * fine
    share = (settings["folds"] - 1) / settings["folds"]
    slides = len(directories[0].slide_ids) * share * settings["epochs"]
    instances = slides * _instances(directories[0], scales, settings) * num_models
    return _PASSES * each * instances / _RATE / 3600


def _instances(
    directory: EmbeddingDirectory, scales: Sequence[float], settings: Mapping[str, Any]
) -> float:
    """Coarsest tiles of a slide that an epoch combines; together, each of them once."""
    drawn = settings["bags"] * settings["bag_size"]
    if not settings["together"] or len(scales) == 1:
        return drawn
    return min(drawn, float(count_tiles(directory, scales[0]).mean()))


def encoder_parameters(directories: Sequence[EmbeddingDirectory]) -> float:
    """Parameters of the encoders of some embeddings, each counted once.

    Their projection heads count, as in the paper. NaN where an encoder is not one that
    ``jobs/pretrain.py`` wrote, or does not lie where it was when it embedded.
    """
    total, seen = 0.0, set()
    for directory in directories:
        if directory.encoder["digest"] in seen:
            continue
        seen.add(directory.encoder["digest"])
        part = (directory.manifest.recorded or {}).get("encoder") or {}
        folder = (
            Path(part.get("path", "")) if part.get("name") == "checkpoint" else None
        )
        if folder is None or not (folder / "encoder.safetensors").is_file():
            return math.nan
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, "np") as tensors:
                trained = (
                    key
                    for key in sorted(tensors.keys())
                    if not key.endswith(_STATISTICS)
                )
                shapes = (tensors.get_slice(key).get_shape() for key in trained)
                total += sum(math.prod(shape) for shape in shapes)
    return total
