"""Memory of a driver and its Ray workers, as the kernel reports it (Linux)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_PROC = Path("/proc")
_EVERY_S = 0.25


class PeakMemory:
    """Peak memory that a process and its Ray workers have held together, in MiB.

    A context manager that samples every quarter of a second. It counts the
    proportional set size: a page that n processes share is an n-th of each. Ray's own
    servers, whose size depends on the machine and not on the work, are left out.
    """

    def __init__(self, driver: int | None = None):
        self._driver = driver or os.getpid()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mib = 0.0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_EVERY_S):
            family = [self._driver, *_descendants(self._driver)]
            held = sum(_pss_kib(p) for p in family if p == family[0] or _works(p))
            self.mib = max(self.mib, held / 1024)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                # The name before the last bracket may hold anything.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended
            children.setdefault(parent, []).append(int(entry.name))
    found, unseen = [], [root]
    while unseen:
        below = children.get(unseen.pop(), [])
        found += below
        unseen += below
    return found


def _works(pid: int) -> bool:
    """Whether it is a Ray worker, or a plain Python one of this package's own."""
    try:
        command = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    return command.startswith(b"ray::") or b"spawn_main" in command


def _pss_kib(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
