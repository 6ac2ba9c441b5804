"""Batches in which every class has the same number of tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mshisto_ray.contrastive.losses import (
    full_precision,
    without_autocast,
)
from mshisto_ray.tile_classification.head.loss import FocalLoss
from mshisto_ray.training.draws import choose, uniforms
from mshisto_ray.training.feeding import TileBatch
from mshisto_ray.training.tile_index import UNKNOWN, TileIndex


@dataclass(frozen=True)
class _Class:
    """Tiles [K] of a class, sorted by slide, with each slide's start and size."""

    code: int
    tiles: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray


class ClassBatches:
    """Batches that take classes in turn; the target is the tiles' class, int64 [M].

    Within a class every slide is equally likely, and within a slide every tile: a
    large slide weighs no more than a small one. A class without tiles in the block is
    skipped.
    """

    def __init__(self, index: TileIndex, code: np.ndarray, batch_size: int):
        self._code, self._batch_size = code, batch_size
        slide = index.slide(np.arange(len(index)))
        self._classes = [_class(c, code, slide) for c in np.unique(code)]

    def draw(self, seed: int, step: int) -> np.ndarray:
        """Tiles [M] of the batch of a step."""
        # Turns continue where the last batch ended, so that no class is always first.
        turn = (np.arange(self._batch_size) + step * self._batch_size) % len(
            self._classes
        )
        uniform = uniforms(seed, "classes", step, self._batch_size, 2)
        tiles = np.zeros(self._batch_size, np.int64)
        for number, of in enumerate(self._classes):
            at = np.flatnonzero(turn == number)
            slide = choose(uniform[at, 0], np.full(len(at), len(of.sizes)))
            place = of.starts[slide] + choose(uniform[at, 1], of.sizes[slide])
            tiles[at] = of.tiles[place]
        return tiles

    def batch(self, seed: int, step: int) -> TileBatch:
        """The batch of a step."""
        tiles = self.draw(seed, step)
        return TileBatch(tiles, (self._code[tiles],), {})

    def without_unreadable(
        self, batch: TileBatch, readable: np.ndarray, images: torch.Tensor
    ) -> TileBatch:
        """The batch with the class of unreadable tiles set to ``UNKNOWN``."""
        (code,) = batch.targets
        counts = {"unreadable_tiles": int((~readable).sum())}
        return TileBatch(batch.tiles, (np.where(readable, code, UNKNOWN),), counts)


class ClassLoss(nn.Module):
    """Mean focal loss of logits [M, C] over the tiles [M] of known class.

    ``gamma`` 0: cross-entropy.
    """

    def __init__(self, gamma: float = 0.0):
        super().__init__()
        self._loss = FocalLoss(gamma)

    def forward(self, logits: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """The loss; 0, with a zero gradient, if no class is known."""
        with without_autocast(logits):
            known = code != UNKNOWN
            if not known.any():
                return full_precision(logits).sum() * 0
            return self._loss(full_precision(logits)[known], code[known])


def _class(code: int, codes: np.ndarray, slide: np.ndarray) -> _Class:
    tiles = np.flatnonzero(codes == code)
    _, starts, sizes = np.unique(slide[tiles], return_index=True, return_counts=True)
    return _Class(code, tiles, starts, sizes)
