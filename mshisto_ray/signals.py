"""Ctrl-C and SIGTERM end a job in order: one line, an exit code, no traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A signal whose exception was dropped is sent again when Python is elsewhere.
_AGAIN_S = 0.1


class Stop(KeyboardInterrupt):
    """The exception of a signal; unlike its base it may be watched."""


class StopSignals:
    """Makes SIGTERM and SIGINT raise KeyboardInterrupt in the main thread.

    Libraries know how to leave their C code on that exception alone. SIGTERM comes from
    ``ray job stop``, a batch system, the end of a container. A child made by a fork
    ends at once. An exception that ends before it has ended the job was dropped: by a
    library that catches everything, or by Python in a destructor or the callback of a
    weak reference. Then the signal is sent again.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._number: int | None = None
        self._raised: weakref.ref[Stop] | None = None
        self._arrived = False
        signal.signal(signal.SIGTERM, self._stop)
        # The background process of a shell is started to ignore Ctrl-C.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._stop)
        hook = sys.unraisablehook
        earlier = getattr(hook, "__self__", None)
        self._report = earlier._report if isinstance(earlier, StopSignals) else hook
        sys.unraisablehook = self._report_others

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            os._exit(128 + number)
        self._number = number
        # In no variable here: this frame is part of the traceback, which would keep it.
        raise self._watched(Stop())

    def _watched(self, stop: Stop) -> Stop:
        self._raised = weakref.ref(stop, self._send_again)
        return stop

    def _send_again(self, _: weakref.ref[Stop]) -> None:
        if self._arrived or self._number is None or os.getpid() != self._owner:
            return
        again = threading.Timer(_AGAIN_S, os.kill, (self._owner, self._number))
        again.daemon = True
        again.start()

    def _report_others(self, dropped: UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, Stop):
            self._report(dropped)

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
        self._arrived = True
        return 128 + (self._number or signal.SIGINT)


@contextmanager
def keep_handlers() -> Iterator[None]:
    """Put the handlers back after a block in which a library sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
