"""Who reads the tiles of a chunk: the worker itself, or threads ahead of it."""

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
from mshisto_ray.tiling.cell import CellReader
from mshisto_ray.tiling.resolution import ScaleReading

# What one thread or process reads at a time, in whole cells; what is read ahead is
# two of these each.
_RUN_TILES = 32
_AHEAD = 2

# Corner x, y of tiles in the order wanted, with the mpp of their scale.
Cell = list[tuple[float, int, int]]
Run = Sequence[Cell]
# A tile's pixels, or why there are none.
Answer = np.ndarray | SlideError
F = TypeVar("F")


@dataclass(frozen=True)
class SlideSource:
    """A slide to read tiles of; small and picklable. ``tile_px``: side of a tile."""

    path: Path
    reader: str
    readings: dict[float, ScaleReading]
    tile_px: int


class ReaderDiedError(Exception):
    """The process that was reading has ended, as damaged files can make it."""


class Reading(Protocol):
    """Reads the tiles of a chunk."""

    def __call__(self, source: SlideSource, cells: Run) -> Iterator[Answer]:
        """Pixels of every tile in order, or why there are none.

        Raises:
            SlideError: the slide cannot be opened.
            OSError: it cannot be reached.
            ReaderDiedError: a process that reads for this one has ended.
        """
        ...


class InTurn:
    """Reads a tile when it is wanted; keeps the last slide open. One thread."""

    def __init__(self) -> None:
        self._watchdog = Watchdog()
        self._open: tuple[SlideSource, Slide] | None = None

    def __call__(self, source: SlideSource, cells: Run) -> Iterator[Answer]:
        """Pixels of every tile in order, or why there are none."""
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
    """Reads in a child process that a tile may end."""

    def __call__(self, source: SlideSource, cells: Run) -> Iterator[Answer]:
        """Pixels of every tile in order, or why there are none."""
        read = IsolatedReader(source.path, source.reader, source.tile_px)
        try:
            for mpp, x, y in chain.from_iterable(cells):
                try:
                    yield read(source.readings[mpp], x, y)
                except SlideError as error:
                    yield error
        finally:
            read.close()


class Threads:
    """Threads that read ahead, each with handles of its own."""

    def __init__(self, num: int):
        self._pool = ThreadPoolExecutor(num)
        self._num = num
        self._own = threading.local()

    def __call__(self, source: SlideSource, cells: Run) -> Iterator[Answer]:
        """Pixels of every tile in order, or why there are none."""

        def read(run: Run) -> list[Answer]:
            if not hasattr(self._own, "reader"):
                self._own.reader = InTurn()
            return list(self._own.reader(source, run))

        submit = functools.partial(self._pool.submit, read)
        for future in in_order(submit, cells, self._num):
            yield from future.result()


def in_order(submit: Callable[[Run], F], cells: Run, readers: int) -> Iterator[F]:
    """What ``submit`` gives for runs of cells, in order; bounded, ahead of its use."""
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
