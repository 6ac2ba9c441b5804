"""Ctrl-C and SIGTERM end a job in order: one line, an exit code, no traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# A signal whose exception was dropped is sent again when Python is elsewhere.
_AGAIN_S = 0.1


class StopSignals:
    """Makes SIGTERM raise KeyboardInterrupt in the main thread, as SIGINT does.

    Libraries know how to leave their C code on that exception alone. SIGTERM comes from
    ``ray job stop``, a batch system, the end of a container. A child made by a fork
    ends at once. A signal that arrives while Python runs a destructor, or the callback
    of a weak reference, raises an exception that Python drops: it is sent again.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._terminated = False
        signal.signal(signal.SIGTERM, self._stop)
        hook = sys.unraisablehook
        earlier = getattr(hook, "__self__", None)
        self._report = earlier._report if isinstance(earlier, StopSignals) else hook
        sys.unraisablehook = self._send_again

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            os._exit(128 + number)
        self._terminated = True
        raise KeyboardInterrupt

    def _send_again(self, dropped: UnraisableHookArgs) -> None:
        is_stop = issubclass(dropped.exc_type, KeyboardInterrupt)
        if not is_stop or os.getpid() != self._owner:
            self._report(dropped)
            return
        number = signal.SIGTERM if self._terminated else signal.SIGINT
        again = threading.Timer(_AGAIN_S, os.kill, (self._owner, number))
        again.daemon = True
        again.start()

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
