"""Gaussian noise shaped as what augmentation of tiles does to their embeddings."""

from __future__ import annotations

from pathlib import Path

import torch

from mshisto_ray.config import InputError, InputPath
from mshisto_ray.representation.differences import read_differences
from mshisto_ray.representation.noises import (
    Noise,
    Strength,
    factor_of,
    shaped,
    unchanged,
)
from mshisto_ray.representation.space import Space

FILES = ("path",)

Paths = InputPath | tuple[InputPath, ...]


def check(views: tuple[int, ...], reduced: bool, *, path: Paths, sigma: float) -> None:
    """Refuse files of other widths than those of the views."""
    widths = tuple(read_differences(file).shape[1] for file in _files(path))
    if widths != views:
        raise InputError(
            f"noise.path: files of {_words(widths)} features, the embeddings have "
            f"{_words(views)}: give a file for each view, made with its encoder"
        )


def check_fold(held_out: frozenset[str], *, path: Paths, sigma: float) -> None:
    """Refuse files without differences of slides that a fold does not hold out."""
    for file in _files(path) if sigma else ():
        read_differences(file, held_out)


def build(space: Space, *, path: Paths, sigma: Strength = 0.0) -> Noise:
    """Add noise with the covariance of f(augmented tile) - f(tile).

    ``path``: a file of ``mshisto augmentation``, or one a view in their order; views
    are disturbed independently. Of a file those tiles are taken whose slides are not
    held out from the training fold.

    Source: Nivaggioli et al. 2023, noise on embeddings that is to simulate image
    augmentation in feature space; the paper's noise is isotropic.

    Raises:
        InputError: a file whose tiles are all held out, or a reduction that is not
            linear.
    """
    if sigma == 0:
        return unchanged
    parts = [read_differences(file, space.held_out) for file in _files(path)]
    width, after = sum(part.shape[1] for part in parts), 0
    rows = []
    for part in parts:  # blocks of a block-diagonal covariance, each over its own rows
        block = torch.zeros(len(part), width)
        block[:, after : after + part.shape[1]] = part / len(part) ** 0.5
        rows.append(block)
        after += part.shape[1]
    return shaped(factor_of(space.project(torch.cat(rows))), space.energy, sigma)


def _files(path: Paths) -> tuple[Path, ...]:
    return path if isinstance(path, tuple) else (path,)


def _words(widths: tuple[int, ...]) -> str:
    return " and ".join(map(str, widths))
