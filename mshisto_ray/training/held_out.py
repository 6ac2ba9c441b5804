"""Held-out patients, and the network's output on their tiles."""

from __future__ import annotations

import numpy as np
import torch

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.training.draws import uniforms
from mshisto_ray.training.step import Stepper
from mshisto_ray.training.tile_index import UNKNOWN, TileIndex

_BATCH = 64


class HeldOutConfig(Config):
    """How many patients are held out, and how often the model is validated."""

    share: float = option(0.2, "share of the patients held out", ge=0, lt=1)
    every: int = option(100, "steps between two validations", "steps", ge=1)


def split_patients(
    index: TileIndex, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of training and of validation patients; no patient is in both.

    The share is held out of every class, at least one patient where there are two.

    Raises:
        InputError: there are too few patients.
    """
    tiles = np.arange(len(index))
    num = int(index.patient.max(initial=0)) + 1
    if not share:
        return tiles, tiles[:0]
    if num < 2:
        raise InputError(
            "validation.share: the cohort has one patient; add patients or set it to 0"
        )
    uniform = uniforms(seed, "monitor", 0, num, 1)[:, 0]
    held_out: list[int] = []
    classes = _patient_classes(index)
    for cls in np.unique(classes):
        own = np.flatnonzero(classes == cls)
        own = own[np.argsort(uniform[own])]
        held_out += own[: min(len(own) - 1, max(1, round(share * len(own))))].tolist()
    if not held_out:
        raise InputError(
            "validation.share: every class has one patient, who cannot be both trained "
            "on and held out; add patients or set it to 0"
        )
    is_held_out = np.isin(index.patient[index.slide(tiles)], held_out)
    return tiles[~is_held_out], tiles[is_held_out]


def _patient_classes(index: TileIndex) -> np.ndarray:
    """The class of each patient: of its slides' known ones the rarest, by patients."""
    classes = np.full(int(index.patient.max()) + 1, UNKNOWN)
    known = index.label != UNKNOWN
    has = np.stack([index.patient[known], index.label[known]], axis=1)
    patient, label = np.unique(has, axis=0).reshape(-1, 2).T
    num = np.bincount(label, minlength=1)
    for i in np.argsort(-num[label], kind="stable"):  # the rarest is assigned last
        classes[patient[i]] = label[i]
    return classes


@torch.inference_mode()
def forward_tiles(
    stepper: Stepper, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, D] and projections [N, P], float32, of unaugmented tiles.

    Args:
        stepper: holds the model, which is left in evaluation mode.
        pixels: uint8 [N, H, W, 3].

    Raises:
        InputError: the outputs are not finite.
    """
    model = stepper.model.eval()
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(pixels), _BATCH):
        tiles = torch.from_numpy(pixels[start : start + _BATCH])
        images = tiles.to(device).permute(0, 3, 1, 2).float() / 255
        images = stepper.normalise(images)
        with stepper.autocast():
            found = model.embed_and_project(images)
        parts.append([values.float().cpu() for values in found])
    embeddings, projections = (torch.cat(v).numpy() for v in zip(*parts, strict=True))
    if not (np.isfinite(embeddings).all() and np.isfinite(projections).all()):
        raise InputError(
            "training diverged: embeddings of held-out tiles are not finite; lower "
            "optimiser.lr"
        )
    return embeddings, projections
