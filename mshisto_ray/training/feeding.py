"""Batches for training: blocks are read ahead, images drawn from the current one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch

from mshisto_ray.training.blocks import plan_block
from mshisto_ray.training.clock import Clock
from mshisto_ray.training.config import TrainingConfig
from mshisto_ray.training.joint_batch import gather_flags
from mshisto_ray.training.pixel_cache import Reader
from mshisto_ray.training.reading import HeldTiles
from mshisto_ray.training.tile_index import TileIndex

T = TypeVar("T")


@dataclass(frozen=True)
class TileBatch:
    """The whole batch of a step, of all workers.

    ``tiles``: int64 [M]; ``targets``: arguments of the loss after the projections;
    ``counts``: counts that are summed over steps and reported, by name.
    """

    tiles: np.ndarray
    targets: tuple[np.ndarray, ...]
    counts: Mapping[str, int]


class BatchSource(Protocol):
    """Makes batches of a block's tiles; pure functions of their arguments."""

    def draw(self, seed: int, step: int) -> np.ndarray:
        """Tiles [M] of the batch of a step."""
        ...

    def batch(self, seed: int, step: int) -> TileBatch:
        """The batch of a step."""
        ...

    def without_unreadable(
        self, batch: TileBatch, readable: np.ndarray, images: torch.Tensor
    ) -> TileBatch:
        """The batch with images that could not be read left out of its loss.

        Args:
            batch: of ``batch``.
            readable: bool [M].
            images: uint8 [m, H, W, 3], those of this worker.
        """
        ...


# Makes a block's source from its index and its tiles' numbers in the full index.
MakeSource = Callable[[TileIndex, np.ndarray], BatchSource]


@dataclass(frozen=True)
class Feed:
    """This worker's images of a step, uint8 [m, H, W, 3], and the whole batch."""

    images: torch.Tensor
    batch: TileBatch

    @property
    def targets(self) -> tuple[torch.Tensor, ...]:
        """Arguments of the loss after the projections, on the CPU."""
        return tuple(torch.from_numpy(target) for target in self.batch.targets)


@dataclass(frozen=True)
class _Block:
    number: int
    first_step: int
    num_steps: int
    source: BatchSource
    chosen: np.ndarray
    held: HeldTiles


@dataclass(frozen=True)
class _Prepared:
    """A step's batch and this worker's pixels, before ``readable`` is exchanged."""

    source: BatchSource
    batch: TileBatch
    images: torch.Tensor
    readable: np.ndarray


class Feeder:
    """Yields the batch of every step, in order, starting at any step.

    A batch is a function of (seed, step) only; each worker reads its own images of it.
    The next block is read, and the next step's images are collected, while the current
    ones are trained on; of a block only the tiles that its steps use are read.

    Args:
        index: tiles that are trained on.
        reader: reads them.
        make_source: makes the source of batches of a block.
        config: of the training.
        own: range of this worker's images in a batch.
        clock: times the waiting, and has the device that the images are for.
    """

    def __init__(
        self,
        index: TileIndex,
        reader: Reader,
        make_source: MakeSource,
        config: TrainingConfig,
        own: slice,
        clock: Clock,
    ):
        self._index, self._reader, self._make_source = index, reader, make_source
        self._batch_size, self._own = config.batch_size, own
        self._blocks, self._seed = config.blocks, config.seed
        self._clock = clock

    def __call__(self, start: int, stop: int) -> Iterator[Feed]:
        """Yield the batches of steps ``start`` to ``stop`` (exclusive)."""
        blocks = _ahead(self._read_blocks(start, stop))
        for prepared in _ahead(self._prepared(blocks, start, stop)):
            self._clock.mark("data")
            yield self._feed(prepared)

    def _prepared(
        self, blocks: Iterator[_Block], start: int, stop: int
    ) -> Iterator[_Prepared]:
        """Yield the steps of the blocks."""
        for block in blocks:
            last = block.first_step + block.num_steps
            for step in range(max(start, block.first_step), min(stop, last)):
                batch = block.source.batch(self._seed, step)
                places = block.held.places(block.chosen[batch.tiles[self._own]])
                images = torch.from_numpy(block.held.pixels[places])
                if self._clock.device.type == "cuda":
                    images = images.pin_memory()
                yield _Prepared(
                    block.source, batch, images, block.held.readable[places]
                )

    def _read_blocks(self, start: int, stop: int) -> Iterator[_Block]:
        """Read and yield the blocks that the steps use."""
        number = first = 0
        while first < stop and start < stop:
            chosen = plan_block(self._index, self._blocks, self._seed, number)
            num_steps = self._blocks.num_steps(self._batch_size, len(chosen))
            if first + num_steps > start:
                source = self._make_source(self._index.subset(chosen), chosen)
                wanted = range(max(start, first), min(stop, first + num_steps))
                used = [source.draw(self._seed, step)[self._own] for step in wanted]
                held = self._reader(chosen[np.unique(np.concatenate(used))])
                yield _Block(number, first, num_steps, source, chosen, held)
            number, first = number + 1, first + num_steps

    def _feed(self, prepared: _Prepared) -> Feed:
        seen = gather_flags(prepared.readable, self._clock.device)
        self._clock.mark("communication")
        batch = prepared.source.without_unreadable(
            prepared.batch, seen, prepared.images
        )
        return Feed(prepared.images, batch)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
