"""Processes that read tiles for an embedding worker, on any node with free cores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayActorError

from mshisto_ray.embedding.reading import (
    Answer,
    InTurn,
    ReaderDiedError,
    Run,
    SlideSource,
    in_order,
)


class ReaderActors:
    """Actors of one worker, a CPU each; their pixels come through the object store.

    They end with the worker that made them. One whose process a file crashes is
    restarted by Ray, and the worker gets a ``ReaderDiedError``.
    """

    def __init__(self, num: int):
        make = ray.remote(_Reader).options(
            num_cpus=1, max_restarts=-1, scheduling_strategy="SPREAD"
        )
        self._actors: list[Any] = [make.remote() for _ in range(num)]

    def __call__(self, source: SlideSource, cells: Run) -> Iterator[Answer]:
        """Yield the pixels of every tile in order, or the error of reading it."""
        turn = 0

        def submit(run: Run) -> ray.ObjectRef:
            nonlocal turn
            turn += 1
            # Runs are dealt out in turn: they take equal time, on average.
            return self._actors[turn % len(self._actors)].read.remote(source, run)

        for answers in in_order(submit, cells, len(self._actors)):
            try:
                found = ray.get(answers)
            except RayActorError as error:
                raise ReaderDiedError(str(error)) from None
            if isinstance(found, Exception):
                raise found
            yield from found


class _Reader:
    """Reads runs of cells, keeping its last slide open."""

    def __init__(self) -> None:
        self._read = InTurn()

    def read(self, source: SlideSource, cells: Run) -> list[Answer] | Exception:
        """The tiles of a run, or the error of reading it, to raise in the worker."""
        try:
            return list(self._read(source, cells))
        except Exception as error:  # the worker's guard decides what becomes of it
            return error
