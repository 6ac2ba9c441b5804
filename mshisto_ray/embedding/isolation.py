"""Reading in a child process, for slides that end the process that reads them.

A damaged file can make a decoder hang or end its process. A chunk that did so twice
is read through ``IsolatedReader``, which loses one child per bad tile and names it.
"""

from __future__ import annotations

import pickle
import select
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mshisto_ray.slides import (
    READ_LIMIT_S,
    SlideError,
    open_slide,
)
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.resolution import ScaleReading


class IsolatedReader:
    """Reads tiles of one slide in a child process, replaced whenever it dies.

    ``limit_s`` is for one tile; the start of a child, which imports for seconds on a
    busy machine, is not part of it.
    """

    def __init__(
        self, path: Path, reader: str, tile_px: int, limit_s: float = READ_LIMIT_S
    ):
        self._arguments = [str(path), reader, str(tile_px)]
        self._limit_s = limit_s
        self._child: subprocess.Popen | None = None

    def __call__(self, reading: ScaleReading, x: int, y: int) -> np.ndarray:
        """Pixels of a tile; SlideError ``Crash`` if reading it killed the child.

        Raises:
            SlideError: the tile cannot be read, or ended its process.
            OSError: a child cannot be started.
        """
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
                "Hung", f"reading this tile did not end within {self._limit_s:g} s"
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
        # If this process is killed, the child ends as well: its stdin closes.
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._child = child
        assert child.stdout
        try:
            pickle.load(child.stdout)
        except EOFError:
            self.close()
            raise OSError(
                "no process to read tiles in: it ended at its start"
            ) from None
        return child


def _serve(
    path: Path, reader: str, tile_px: int, requests: BinaryIO, answers: BinaryIO
) -> None:
    slide = None
    pickle.dump("ready", answers)
    answers.flush()
    while True:
        try:
            reading, x, y = pickle.load(requests)
        except EOFError:
            return
        try:
            slide = slide or open_slide(path, reader)
            answer = read_tile(slide, reading, x, y, tile_px)
        except SlideError as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _path, _reader, _tile_px = sys.argv[1:]
    _serve(Path(_path), _reader, int(_tile_px), sys.stdin.buffer, sys.stdout.buffer)
