"""Reading that a slide can kill: a watchdog, and a reader in a process of its own.

Decoders are C code fed with damaged files: they can hang or end the process. The
watchdog ends a process whose read makes no progress; a chunk that ended its process
twice is read through ``IsolatedReader``, which loses one child per bad tile and can
name it.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mshisto_ray import components
from mshisto_ray.slides._slide import SlideError
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.resolution import ScaleReading
from mshisto_ray.tiling.slide import READER, READERS

READ_LIMIT_S = 60.0


class Watchdog:
    """Ends this process when a watched block takes longer than the limit."""

    def __init__(self, limit_s: float = READ_LIMIT_S):
        self._limit_s = limit_s
        self._deadline = float("inf")
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the block."""
        self._deadline = time.monotonic() + self._limit_s
        try:
            yield
        finally:
            self._deadline = float("inf")

    def _watch(self) -> None:
        while True:
            time.sleep(min(1.0, self._limit_s / 4))
            if time.monotonic() > self._deadline:
                # No clean-up can run while C code holds the thread.
                os._exit(86)


class IsolatedReader:
    """Reads tiles of one slide in a child process, replaced whenever it dies."""

    def __init__(self, path: Path, tile_px: int, limit_s: float = READ_LIMIT_S):
        self._arguments = [str(path), str(tile_px)]
        self._limit_s = limit_s
        self._child: subprocess.Popen | None = None

    def __call__(self, reading: ScaleReading, x: int, y: int) -> np.ndarray:
        """Pixels of a tile; SlideError ``Crash`` if reading it killed the child."""
        child = self._child or self._start()
        assert child.stdin and child.stdout
        try:
            pickle.dump((reading, x, y), child.stdin)
            child.stdin.flush()
            if not select.select([child.stdout], [], [], self._limit_s)[0]:
                raise TimeoutError
            answer = pickle.load(child.stdout)
        except TimeoutError:
            self.close()
            raise SlideError(
                "Crash", f"reading this tile did not end within {self._limit_s:g} s"
            ) from None
        except (EOFError, OSError, pickle.UnpicklingError):
            code = child.wait()
            self.close()
            raise SlideError(
                "Crash", f"reading this tile ended the process (exit code {code})"
            ) from None
        if isinstance(answer, SlideError):
            raise answer
        return answer

    def close(self) -> None:
        """End the child."""
        if self._child:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe:
                    pipe.close()
            self._child = None

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", __name__, *self._arguments]
        # Children outlive neither a kill of this process (their stdin closes) nor
        # use more than one thread.
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self._child


def _serve(path: Path, tile_px: int, requests: BinaryIO, answers: BinaryIO) -> None:
    slide = None
    while True:
        try:
            reading, x, y = pickle.load(requests)
        except EOFError:
            return
        try:
            slide = slide or components.build(READERS, READER, path)
            answer = read_tile(slide, reading, x, y, tile_px)
        except SlideError as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer, sys.stdout.buffer)
