"""The end of a process, without the seconds that Python takes to undo its imports."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def end_at_once() -> Iterator[None]:
    """Run a process's main function; the process ends right after the exit handlers.

    With torch, Ray and MLflow imported, Python would spend one to three seconds on
    freeing what the system frees anyway.
    """
    code = 1  # of an exception, whose traceback Python prints before the handlers

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(code)

    atexit.register(end)  # handlers run in reverse order: this one, the first, last
    try:
        yield
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
        raise
