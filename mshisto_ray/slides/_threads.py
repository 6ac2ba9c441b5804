"""Work on many slides in threads of this process, none of which can hold it up."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from mshisto_ray.config import InputError
from mshisto_ray.slides._open import READ_LIMIT_S
from mshisto_ray.slides._slide import SlideError

T = TypeVar("T")
R = TypeVar("R")


def in_threads(
    work: Callable[[T], R],
    items: Sequence[T],
    num: int = 16,
    limit_s: float = READ_LIMIT_S,
) -> list[R | SlideError]:
    """Results of ``work`` for each item, in order; or the error that it raised.

    What takes longer than ``limit_s`` becomes a SlideError ``Hung``: its thread, which
    C code may hold for ever, is left behind and another one takes its place. OSError
    becomes a SlideError ``Unreachable``.

    Raises:
        InputError: as many items hang as there are threads: the storage, no slide.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(items)):
        todo.put(index)
    started: dict[int, float] = {}
    results: dict[int, R | SlideError | BaseException] = {}

    def take_items() -> None:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            started[index] = time.monotonic()
            found = _result(work, items[index])
            if index in results:  # given up meanwhile
                return
            results[index] = found

    def start() -> None:
        threading.Thread(target=take_items, daemon=True).start()

    for _ in range(min(num, len(items))):
        start()
    hung = 0
    while len(results) < len(items):
        time.sleep(0.005)
        now = time.monotonic()
        for index, since in list(started.items()):
            if index in results or now - since < limit_s:
                continue
            results[index] = SlideError(
                "Hung", f"does not answer within {limit_s:g} s: copy it again?"
            )
            hung += 1
            if hung >= num:
                raise InputError(
                    f"{hung} slides do not answer within {limit_s:g} s each: is their "
                    "storage reachable?"
                )
            start()
    return [_or_raise(results[index]) for index in range(len(items))]


def _result(work: Callable[[T], R], item: T) -> R | BaseException:
    try:
        return work(item)
    except OSError as error:
        return SlideError("Unreachable", str(error))
    except BaseException as error:  # raised again where the results are taken
        return error


def _or_raise(result: R | SlideError | BaseException) -> R | SlideError:
    if isinstance(result, BaseException) and not isinstance(result, SlideError):
        raise result
    return result  # pyright: ignore[reportReturnType]
