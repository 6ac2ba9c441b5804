"""Ctrl-C and SIGTERM end a job in order: one line, an exit code, no traceback."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopSignals:
    """Makes SIGTERM raise KeyboardInterrupt in the main thread, as SIGINT does.

    Libraries know how to leave their C code on that exception alone. SIGTERM comes from
    ``ray job stop``, a batch system, the end of a container. A child made by a fork
    ends at once.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._terminated = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            os._exit(128 + number)
        self._terminated = True
        raise KeyboardInterrupt

    def exit_code(self, error: BaseException) -> int | None:
        """128 + the signal that caused an exception; None: it was no signal."""
        # Ray's own handler, in the moments before `keep_handlers` replaces it.
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            return 128 + signal.SIGTERM
        cause: BaseException | None = error
        while cause and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            return None
        return 128 + (signal.SIGTERM if self._terminated else signal.SIGINT)


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
