"""Classification metrics on tiles and slides of held-out patients."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mshisto_ray.config import InputError, option
from mshisto_ray.learning.metrics import auroc, balanced_accuracy
from mshisto_ray.tile_classification.target import ClassifiedTiles
from mshisto_ray.training.draws import uniforms
from mshisto_ray.training.held_out import HeldOutConfig, forward_tiles
from mshisto_ray.training.reading import IndexedTileReader
from mshisto_ray.training.step import Stepper


class TileValidationConfig(HeldOutConfig):
    """Held-out patients, and how many of their tiles are classified."""

    tiles: int = option(
        2000,
        "held-out tiles to classify, spread evenly over slides and their classes",
        "tiles",
        ge=2,
    )


class TileValidation:
    """A fixed sample of tiles of held-out patients, read once.

    Measures ``val_loss``, ``val_auroc`` and ``val_balanced_accuracy`` of tiles; with
    classes of slides also ``val_slide_auroc`` and ``val_slide_balanced_accuracy``, of
    the mean of a slide's tile probabilities.

    Raises InputError when none of the tiles can be read.
    """

    def __init__(self, held_out: ClassifiedTiles, reader: IndexedTileReader, num: int):
        chosen = _sample(held_out, num)
        held = reader(chosen)
        self._pixels = held.pixels[held.readable]
        self._code = held_out.code[chosen[held.readable]]
        self._slide = held_out.index.slide(chosen[held.readable])
        self._by_slide = held_out.by_slide

    def __call__(self, stepper: Stepper, loss: nn.Module) -> dict[str, float]:
        """Measure the model with its current weights."""
        logits = torch.from_numpy(forward_tiles(stepper, self._pixels)[1]).double()
        found = {"val_loss": float(loss(logits, torch.from_numpy(self._code)))}
        probabilities = logits.softmax(dim=1).numpy()
        found |= _measure("val_", probabilities, self._code)
        if self._by_slide:
            slides, first, number = np.unique(
                self._slide, return_index=True, return_inverse=True
            )
            total = np.zeros((len(slides), probabilities.shape[1]))
            np.add.at(total, number, probabilities)
            mean = total / np.bincount(number)[:, None]
            found |= _measure("val_slide_", mean, self._code[first])
        return found


def _measure(
    prefix: str, probabilities: np.ndarray, code: np.ndarray
) -> dict[str, float]:
    return {
        f"{prefix}auroc": auroc(probabilities, code),
        f"{prefix}balanced_accuracy": balanced_accuracy(probabilities, code),
    }


def _sample(held_out: ClassifiedTiles, num: int) -> np.ndarray:
    """About ``num`` tiles, sorted, spread evenly over slides and their classes."""
    index = held_out.index
    slide = index.slide(np.arange(len(index)))
    group = slide * len(held_out.classes) + held_out.code
    uniform = uniforms(0, "monitor", 0, len(index), 1)[:, 0]
    order = np.lexsort((uniform, group))
    _, starts, sizes = np.unique(group[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    return np.sort(order[rank < max(1, num // len(starts))])


def check_held_out(train: ClassifiedTiles, held_out: ClassifiedTiles) -> None:
    """Refuse a split that leaves a class out of training or validation.

    Raises:
        InputError: a class whose tiles are all trained on, or all held out.
    """
    trained, held = train.patients(), held_out.patients()
    for name, num, others in zip(train.classes, trained, held, strict=True):
        if num and others:
            continue
        where = "trained on" if num else "held out"
        raise InputError(
            f"validation: class {name!r} has {num + others} patient(s), all of them "
            f"{where}: add patients, choose others with target.classes, another seed, "
            "or set validation.share=0"
        )
