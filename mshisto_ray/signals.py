"""Ctrl-C and SIGTERM end a job in order: one line, an exit code, no traceback."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """The process got SIGTERM: from ``ray job stop``, a batch system, a container."""


def exit_code(error: BaseException) -> int | None:
    """128 + the signal that an exception stands for, None if it is another."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    # Ray's own handler, in the moments before `keep_handlers` has replaced it.
    is_rays = isinstance(error, SystemExit) and error.code == signal.SIGTERM
    if isinstance(error, Stopped) or is_rays:
        return 128 + signal.SIGTERM
    return None


def raise_on_sigterm() -> None:
    """Make SIGTERM raise ``Stopped`` in the main thread, as SIGINT KeyboardInterrupt.

    A child made by a fork ends at once, as without this handler.
    """
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            os._exit(128 + number)
        raise Stopped

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def keep_handlers() -> Iterator[None]:
    """Put the handlers back after a block in which a library sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
