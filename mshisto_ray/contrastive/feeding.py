"""Batches for training: blocks read ahead, pairs drawn from the one at hand."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.contrastive.blocks import BlockConfig, plan_block
from mshisto_ray.contrastive.joint_batch import WHOLE, Share, gather_flags
from mshisto_ray.contrastive.pairs._source import PairBatch, PairSource, draw_batch
from mshisto_ray.contrastive.phases import Clock
from mshisto_ray.contrastive.pixel_cache import Reader
from mshisto_ray.contrastive.reading import HeldTiles
from mshisto_ray.contrastive.tile_index import TileIndex
from mshisto_ray.contrastive.verification import Verification, drop_contradictions

_CPU = torch.device("cpu")
PAIRS = "mshisto_ray.contrastive.pairs"
T = TypeVar("T")


@dataclass(frozen=True)
class Feed:
    """This worker's images of a step, and how those of the whole batch are related.

    ``images``: uint8 [m, H, W, 3]; ``positive``, ``negative``: bool [M, M];
    ``missing``: pairs without partner; ``dropped``: pairs dropped by verification.
    """

    images: torch.Tensor
    positive: np.ndarray
    negative: np.ndarray
    missing: int
    dropped: int


@dataclass(frozen=True)
class _Block:
    number: int
    first_step: int
    num_steps: int
    source: PairSource
    chosen: np.ndarray
    held: HeldTiles


@dataclass(frozen=True)
class _Prepared:
    """A step's batch with this worker's pixels, before workers tell each other."""

    batch: PairBatch
    images: torch.Tensor
    readable: np.ndarray


class Feeder:
    """Gives the batch of every step, in order, from any step on.

    A batch is a function of (seed, step) alone; of it, a worker reads its own images.
    The next block is read, and the next step's images are put together, while the
    present ones are trained on; of a block only the tiles that its steps use are read.
    """

    def __init__(
        self,
        index: TileIndex,
        reader: Reader,
        pairs: Part,
        batch_size: int,
        blocks: BlockConfig,
        seed: int,
        verification: Verification | None,
        share: Share = WHOLE,
        device: torch.device = _CPU,
        clock: Clock | None = None,
    ):
        self._index, self._reader, self._pairs = index, reader, pairs
        self._num_pairs = batch_size // 2
        self._blocks, self._seed = blocks, seed
        self._verification = verification
        self._own, self._device = share.part(batch_size), device
        self._clock = clock or Clock(device)

    def __call__(self, start: int, stop: int) -> Iterator[Feed]:
        """Batches of the steps from ``start`` to ``stop`` (exclusive)."""
        blocks = _ahead(self._plans(start, stop))
        for prepared in _ahead(self._prepared(blocks, start, stop)):
            self._clock.mark("data")
            yield self._feed(prepared)

    def _prepared(
        self, blocks: Iterator[_Block], start: int, stop: int
    ) -> Iterator[_Prepared]:
        """Steps of the blocks."""
        for block in blocks:
            last = block.first_step + block.num_steps
            for step in range(max(start, block.first_step), min(stop, last)):
                batch = draw_batch(block.source, self._seed, step, self._num_pairs)
                places = block.held.places(block.chosen[batch.tiles[self._own]])
                images = torch.from_numpy(block.held.pixels[places])
                if self._device.type == "cuda":
                    images = images.pin_memory()
                yield _Prepared(batch, images, block.held.readable[places])

    def _plans(self, start: int, stop: int) -> Iterator[_Block]:
        """Blocks whose steps are wanted, read."""
        number = first = 0
        while first < stop:
            chosen = plan_block(self._index, self._blocks, self._seed, number)
            num_steps = self._blocks.num_steps(2 * self._num_pairs, len(chosen))
            if first + num_steps > start:
                part = self._index.subset(chosen)
                source = components.build(PAIRS, self._pairs, part)
                wanted = range(max(start, first), min(stop, first + num_steps))
                used = [
                    self._draw(source, step).reshape(-1)[self._own] for step in wanted
                ]
                held = self._reader(chosen[np.unique(np.concatenate(used))])
                yield _Block(number, first, num_steps, source, chosen, held)
            number, first = number + 1, first + num_steps

    def _draw(self, source: PairSource, step: int) -> np.ndarray:
        return source.draw(self._seed, step, np.arange(self._num_pairs))

    def _feed(self, prepared: _Prepared) -> Feed:
        batch, images = prepared.batch, prepared.images
        seen = gather_flags(prepared.readable, self._device)
        self._clock.mark("communication")
        seen = seen[:, None] & seen
        positive, negative = batch.positive & seen, batch.negative & seen
        dropped = 0
        if self._verification:
            before = positive.sum() + negative.sum()
            positive, negative = drop_contradictions(
                images.numpy(), positive, negative, self._verification
            )
            dropped = int(before - positive.sum() - negative.sum()) // 2
        return Feed(images, positive, negative, batch.missing, dropped)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def check_batches(index: TileIndex, pairs: Part, batch_size: int) -> None:
    """Refuse a cohort or batch that pairs cannot be drawn from.

    Raises:
        InputError: no tiles, an odd batch, or what the source of pairs says.
    """
    if not len(index):
        raise InputError("tiles: no slide has a tile at the scales asked for")
    if batch_size % 2:
        raise InputError(f"batch_size: {batch_size} images do not make whole pairs")
    components.build(PAIRS, pairs, index).check(batch_size // 2)
