"""Reading of a chunk's tiles: in the worker, in a child process, or in threads."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from mshisto_ray.embedding.isolation import IsolatedReader
from mshisto_ray.slides import (
    Slide,
    SlideError,
    Watchdog,
)
from mshisto_ray.store.guard import AttemptLostError
from mshisto_ray.tiling.cell import CellReader
from mshisto_ray.tiling.resolution import ScaleReading

# Tiles per run, which one thread or process reads at a time, in whole cells; runs read
# ahead by each.
_RUN_TILES = 32
_AHEAD = 2
# Tiles of a chunk that may hang before it is given up until the next run.
_MOST_HUNG = 3

# The tiles of a cell in the order wanted: mpp of the scale, corner x, y.
Cell = list[tuple[float, int, int]]
Run = Sequence[Cell]
# A tile's pixels, or the error that prevented their reading.
Answer = np.ndarray | SlideError
F = TypeVar("F")


@dataclass(frozen=True)
class SlideSource:
    """A slide to read tiles of; small and picklable. ``tile_px``: side of a tile."""

    path: Path
    reader: str
    readings: dict[float, ScaleReading]
    tile_px: int


class ReaderDiedError(AttemptLostError):
    """The process that was reading has ended, perhaps because of a damaged file."""


class Reading(Protocol):
    """Reads the tiles of a chunk."""

    def __call__(self, source: SlideSource, cells: Run) -> Iterator[Answer]:
        """Pixels of each tile, or the error, in order.

        Raises:
            SlideError: the slide cannot be opened.
            OSError: it cannot be reached.
            ReaderDiedError: a reader process of this worker has ended.
        """
        ...


class InTurn:
    """Reads each tile on demand, in one thread; keeps the last slide open."""

    def __init__(self) -> None:
        self._watchdog = Watchdog()
        self._open: tuple[SlideSource, Slide] | None = None

    def __call__(self, source: SlideSource, cells: Run) -> Iterator[Answer]:
        """Pixels of each tile, or the error, in order."""
        read = CellReader(self._slide(source), source.readings, source.tile_px)
        for mpp, x, y in chain.from_iterable(cells):
            try:
                yield read(source.readings[mpp], x, y)
            except SlideError as error:
                yield error

    def _slide(self, source: SlideSource) -> Slide:
        if self._open and self._open[0] == source:
            return self._open[1]
        if self._open:
            self._open[1].close()
            self._open = None
        slide = self._watchdog.open_slide(source.path, source.reader)
        self._open = (source, slide)
        return slide


class Isolated:
    """Reads in a child process, which a damaged tile may end."""

    def __call__(self, source: SlideSource, cells: Run) -> Iterator[Answer]:
        """Pixels of each tile, or the error, in order.

        Raises:
            SlideError: ``Hung``, once several tiles in all have hung: every tile of a
                storage that does not answer would, each for the whole limit.
        """
        read, hung = IsolatedReader(source.path, source.reader, source.tile_px), 0
        try:
            for mpp, x, y in chain.from_iterable(cells):
                try:
                    yield read(source.readings[mpp], x, y)
                except SlideError as error:
                    hung += error.name == "Hung"
                    if hung == _MOST_HUNG:
                        raise
                    yield error
        finally:
            read.close()


class Threads:
    """Reads ahead in threads, each with its own slide handles."""

    def __init__(self, num: int):
        self._pool = ThreadPoolExecutor(num)
        self._num = num
        self._own = threading.local()

    def __call__(self, source: SlideSource, cells: Run) -> Iterator[Answer]:
        """Pixels of each tile, or the error, in order."""

        def read(run: Run) -> list[Answer]:
            if not hasattr(self._own, "reader"):
                self._own.reader = InTurn()
            return list(self._own.reader(source, run))

        submit = functools.partial(self._pool.submit, read)
        for future in in_order(submit, cells, self._num):
            yield from future.result()


def in_order(submit: Callable[[Run], F], cells: Run, readers: int) -> Iterator[F]:
    """Results of ``submit`` for runs of cells, in order; a few runs are read ahead."""
    pending: deque[F] = deque()
    for run in _runs(cells):
        pending.append(submit(run))
        if len(pending) > _AHEAD * readers:
            yield pending.popleft()
    yield from pending


def _runs(cells: Run) -> Iterator[Run]:
    run: list[Cell] = []
    for cell in cells:
        run.append(cell)
        if sum(map(len, run)) >= _RUN_TILES:
            yield run
            run = []
    if run:
        yield run
