"""Batches of pairs, and the loss's relations between their images."""

from __future__ import annotations

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.contrastive.pairs import (
    PairSource,
    draw_batch,
)
from mshisto_ray.contrastive.verification import Verification, drop_contradictions
from mshisto_ray.training.feeding import MakeSource, TileBatch
from mshisto_ray.training.tile_index import TileIndex

PAIRS = "mshisto_ray.contrastive.pairs"


class PairBatches:
    """Batches of one source's pairs; targets are its relations, bool [M, M] each.

    With ``numbers``, of the block's tiles among all, those of the images [M] follow,
    -1 where they are unreadable.
    """

    def __init__(
        self,
        source: PairSource,
        num_pairs: int,
        verification: Verification | None,
        numbers: np.ndarray | None = None,
    ):
        self._source, self._num_pairs = source, num_pairs
        self._verification, self._numbers = verification, numbers

    def draw(self, seed: int, step: int) -> np.ndarray:
        """Tiles [M] of the batch of a step, pair p at places 2p and 2p + 1."""
        return self._source.draw(seed, step, np.arange(self._num_pairs)).reshape(-1)

    def batch(self, seed: int, step: int) -> TileBatch:
        """The batch of a step."""
        drawn = draw_batch(self._source, seed, step, self._num_pairs)
        targets = drawn.positive, drawn.negative
        if self._numbers is not None:
            targets = *targets, self._numbers[drawn.tiles]
        return TileBatch(drawn.tiles, targets, {"missing_pairs": drawn.missing})

    def without_unreadable(
        self, batch: TileBatch, readable: np.ndarray, images: torch.Tensor
    ) -> TileBatch:
        """The batch without pairs that are unreadable or contradicted by appearance.

        With verification ``images`` must be those of the whole batch.
        """
        seen = readable[:, None] & readable
        positive, negative, *numbers = batch.targets
        positive, negative = positive & seen, negative & seen
        before = positive.sum() + negative.sum()
        if self._verification:
            positive, negative = drop_contradictions(
                images.numpy(), positive, negative, self._verification
            )
        dropped = int(before - positive.sum() - negative.sum()) // 2
        counts = {**batch.counts, "dropped_pairs": dropped}
        numbers = [np.where(readable, number, -1) for number in numbers]
        return TileBatch(batch.tiles, (positive, negative, *numbers), counts)


def pair_batches(
    pairs: Part, batch_size: int, verification: Verification | None
) -> MakeSource:
    """A function that makes a block's source of batches of ``batch_size`` images."""
    is_single = components.declaration(PAIRS, pairs.name, "SINGLE", False)

    def make(index: TileIndex, chosen: np.ndarray) -> PairBatches:
        source = components.build(PAIRS, pairs, index)
        numbers = chosen if is_single else None
        return PairBatches(source, batch_size // 2, verification, numbers)

    return make


def check_batches(index: TileIndex, pairs: Part, batch_size: int) -> None:
    """Refuse a cohort or batch that pairs cannot be drawn from.

    Raises:
        InputError: no tiles, an odd batch, or an error of the pair source's check.
    """
    if not len(index):
        raise InputError("tiles: no slide has a tile at the configured scales")
    if batch_size % 2:
        raise InputError(
            f"batch_size: {batch_size} images do not make whole pairs: take an even "
            "number"
        )
    components.build(PAIRS, pairs, index).check(batch_size // 2)
