"""Opening of slides, and a watchdog that ends a hanging decoder."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from mshisto_ray import components
from mshisto_ray.slides._slide import (
    Slide,
    SlideError,
    frame_of,
    gaps_of,
    read_held,
    read_nearest,
)

T = TypeVar("T")
FAMILY = "mshisto_ray.slides"
# Reads nearly every format; the other readers are compared with it.
REFERENCE = "openslide"
# The reference; for a file that it does not open, the reader that declares it.
AUTO = "auto"
READ_LIMIT_S = 60.0
_RECORD_LIMIT_S = 5.0


def open_slide(path: Path, reader: str = AUTO) -> Slide:
    """Open a slide with the named reader of the family.

    Raises:
        SlideError: it cannot be opened (by this reader), or there is no such reader.
    """
    if reader != AUTO:
        try:
            build = components.builder(FAMILY, reader)
        except ValueError as error:  # whose package is not on this machine
            raise SlideError("NoReader", str(error)) from None
        return build(path)
    try:
        return open_slide(path, REFERENCE)
    except SlideError:
        other = other_reader(path)
        if other is None:
            raise
    return open_slide(path, other)


def stand_ins(pixels: str) -> list[str]:
    """Readers that are tried before the reference, for a value of ``pixels``."""
    declared = components.declarations(FAMILY, "STANDS_IN")
    place = {name: at[pixels] for name, at in declared.items() if pixels in at}
    return sorted(place, key=lambda name: (place[name], name))


def plain_reader(reader: str) -> str:
    """The reader of a slide's native levels alone: the reference for its stand-ins."""
    has_own_levels = reader in components.declarations(FAMILY, "STANDS_IN")
    return REFERENCE if has_own_levels else reader


def other_reader(path: Path) -> str | None:
    """The reader that declares a file which the reference does not open."""
    if not path.exists():
        return None
    known = {REFERENCE, *components.declarations(FAMILY, "STANDS_IN")}
    for name, opens in components.declarations(FAMILY, "opens").items():
        if name not in known and opens(path):
            return name
    return None


class Watchdog:
    """Ends this process when a watched block takes longer than the limit.

    Decoders are C code fed with damaged files; a thread that hangs in one cannot be
    interrupted, only its process can be ended. ``before_end`` is called first, to
    record why.
    """

    def __init__(self, limit_s: float = READ_LIMIT_S):
        self._limit_s = limit_s
        self._deadline = float("inf")
        self.before_end: Callable[[], None] | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def open_slide(self, path: Path, reader: str = AUTO) -> Slide:
        """Open a slide whose opening and reads are all watched."""
        with self.watching():
            return _WatchedSlide(open_slide(path, reader), self)

    def watched(self, read: Callable[[Path], T]) -> Callable[[Path], T]:
        """``read``, whose calls are watched."""

        def read_watched(path: Path) -> T:
            with self.watching():
                return read(path)

        return read_watched

    @contextmanager
    def watching(self) -> Iterator[None]:
        """End the process if the block exceeds the limit."""
        self._deadline = time.monotonic() + self._limit_s
        try:
            yield
        finally:
            self._deadline = float("inf")

    def _watch(self) -> None:
        while True:
            time.sleep(min(1.0, self._limit_s / 4))
            if time.monotonic() > self._deadline:
                self._end()

    def _end(self) -> None:
        if self.before_end:  # which the storage that hangs may make hang as well
            record = threading.Thread(target=self.before_end, daemon=True)
            record.start()
            record.join(_RECORD_LIMIT_S)
        os._exit(86)  # no clean-up can run while C code holds the thread


class _WatchedSlide:
    def __init__(self, slide: Slide, watchdog: Watchdog):
        self._slide = slide
        self._watchdog = watchdog
        self.levels = slide.levels
        self.mpp = slide.mpp
        self.vendor = slide.vendor
        self.objective = slide.objective
        self.frame = frame_of(slide)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        with self._watchdog.watching():
            return self._slide.read(level, x, y, width, height)

    def read_held(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        with self._watchdog.watching():
            return read_held(self._slide, level, x, y, width, height)

    def read_nearest(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> np.ndarray:
        with self._watchdog.watching():
            return read_nearest(self._slide, level, x, y, width, height)

    def gaps(self, level: int) -> np.ndarray:
        with self._watchdog.watching():
            return gaps_of(self._slide, level)

    def close(self) -> None:
        self._slide.close()
