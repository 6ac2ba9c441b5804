"""Progress lines of a running stage, and the check that stops a failing one."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from tqdm import tqdm

from mshisto_ray.config import TooManyFailuresError

_EVERY_S = 5.0
# Without a finished unit for so long, tiles of the unfinished ones are counted.
_SILENT_S = 15.0
_CHECK_AFTER_SLIDES = 20


class Progress:
    """Counts finished units; prints a line every few seconds, a bar on a terminal.

    Args:
        name: of the stage.
        units_per_slide: units still to do of each slide.
        expected_tiles: tiles in all those units, to estimate the time left; 0 if
            unknown: units are counted instead.
        max_failures: share of slides that may fail wholly.
    """

    def __init__(
        self,
        name: str,
        units_per_slide: Mapping[str, int],
        expected_tiles: int,
        max_failures: float,
    ):
        self._name = name
        self._left = dict(units_per_slide)
        self._tiles_of = dict.fromkeys(units_per_slide, 0)
        self._num_slides = len(units_per_slide)
        self._num_units = sum(units_per_slide.values())
        self._expected_tiles = expected_tiles
        self._max_failures = max_failures
        self._started = time.monotonic()
        # Of the first unit, as far as its row says: workers start before.
        self._began = float("inf")
        self._printed = self._started
        self._reasons: Counter[tuple[str, str]] = Counter()
        # Of the last line on unfinished units: when, and tiles by then.
        self._beat: tuple[float, int] | None = None
        self._bar = self._make_bar() if sys.stdout.isatty() else None
        self.units = self.tiles = self.failures = self.slides = self.failed = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a unit's row (slide_id, tiles, failures, reasons).

        ``unit_s``, if it is there, are the seconds from the unit's start to its end:
        what workers needed to start is no part of the pace.

        Raises:
            TooManyFailuresError: after 20 slides, more than ``max_failures`` of them
                gave no tile.
        """
        now = time.monotonic()
        slide = row["slide_id"]
        taken = row.get("unit_s", now - self._started)
        self._began = min(self._began, now - taken)
        self.units += 1
        self.tiles += row["tiles"]
        self.failures += row["failures"]
        self._reasons.update({(kind, error) for kind, error in row["reasons"]})
        self._tiles_of[slide] += row["tiles"]
        self._left[slide] -= 1
        if not self._left[slide]:
            self.slides += 1
            self.failed += not self._tiles_of[slide]
        self._show(now)
        if self.slides >= _CHECK_AFTER_SLIDES:
            check_failures(
                self.failed, self.slides, self._max_failures, self.suspicion()
            )

    def _show(self, now: float) -> None:
        is_over = self.units == self._num_units
        if self._bar:
            self._draw(0)
            if is_over:
                self.close()
        if is_over or (not self._bar and now - self._printed >= _EVERY_S):
            say(self.line())
            self._printed = now

    def _make_bar(self) -> tqdm:
        """A bar with the pace of ``line``, which leaves out the start of workers."""
        shown = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}{postfix}"
        total = self._expected_tiles or self._num_units
        return tqdm(
            total=total, desc=self._name, file=sys.stdout, dynamic_ncols=True,
            unit="tiles" if self._expected_tiles else "units", bar_format=shown,
        )  # fmt: skip

    def _draw(self, at_work: int) -> None:
        assert self._bar
        done = self.tiles + at_work if self._expected_tiles else self.units
        self._bar.n = min(done, self._bar.total)
        left = f", {self._time_left()} left" if self.units else ""
        self._bar.set_postfix_str(
            f"{self.units}/{self._num_units} units, {self.failures} failures{left}"
        )

    def close(self) -> None:
        """End the bar of a terminal."""
        if self._bar:
            self._bar.close()
            self._bar = None

    @contextlib.contextmanager
    def watching(self, at_work: Callable[[], int]) -> Iterator[None]:
        """Show the tiles of unfinished units where units take long.

        Args:
            at_work: counts them; called in a thread, every few seconds.
        """
        over = threading.Event()
        thread = threading.Thread(
            target=self._watch, args=(at_work, over.wait), daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.close()

    def _watch(self, at_work: Callable[[], int], wait: Callable[[float], bool]) -> None:
        while not wait(_EVERY_S):
            if self._bar:
                self._draw(at_work())
            elif time.monotonic() - self._printed >= _SILENT_S:
                self._say_at_work(at_work())

    def _say_at_work(self, at_work: int) -> None:
        """A line on tiles of unfinished units, where there are more than before."""
        now, done = time.monotonic(), self.tiles + at_work
        before, self._beat = self._beat, (now, done)
        if not at_work or (before and done <= before[1]):
            return
        rest = ""
        if before and self._expected_tiles:
            pace = (done - before[1]) / (now - before[0])
            left = round(max(self._expected_tiles - done, 0) / pace)
            rest = f", {pace:,.1f} tiles/s, {timedelta(seconds=left)} left"
        say(
            f"{self._name}: {self.units}/{self._num_units} units, {done:,} tiles, "
            f"{at_work:,} of them in unfinished units{rest}"
        )
        self._printed = now

    def suspicion(self) -> str:
        """A phrase on what most units failed by, where that is no fault of slides."""
        if not self._reasons:
            return ""
        (kind, error), num = self._reasons.most_common(1)[0]
        if kind not in ("transient", "hung") or num * 2 < self.units:
            return ""
        return (
            f"; {num} of {self.units} units by {error} ({kind}): suspect the storage "
            "or the network, not the slides; the same command resumes"
        )

    @property
    def seconds(self) -> float:
        """Seconds since the start, that of the workers included."""
        return time.monotonic() - self._started

    def line(self) -> str:
        """The progress line: units, slides, tiles, tiles/s, failures and time left."""
        pace = self.tiles / max(self._working_s(), 1e-9)
        return (
            f"{self._name}: {self.units}/{self._num_units} units, "
            f"{self.slides}/{self._num_slides} slides, {self.tiles:,} tiles, "
            f"{pace:,.0f} tiles/s, {self.failures} failures, {self._time_left()} left"
        )

    def _working_s(self) -> float:
        return max(0.0, time.monotonic() - self._began)

    def _time_left(self) -> str:
        total, done = self._num_units, self.units
        if self._expected_tiles:
            total, done = self._expected_tiles, self.tiles
        seconds = self._working_s() * max(total - done, 0) / max(done, 1)
        return str(timedelta(seconds=round(seconds)))


class CountBar:
    """A terminal's bar of things that are counted, below the lines on them.

    Where output goes to a file there is no bar, and the lines are as of ``say``.
    """

    def __init__(self, name: str, total: int, unit: str):
        self._bar = None
        if sys.stdout.isatty():
            shown = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}"
            self._bar = tqdm(
                total=total, desc=name, unit=unit, file=sys.stdout,
                dynamic_ncols=True, bar_format=shown + "{postfix}",
            )  # fmt: skip

    @property
    def is_shown(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        if self._bar is None:
            say(line)
        else:
            self._bar.write(line, file=sys.stdout)

    def show(self, done: int, note: str) -> None:
        """Move the bar, which ends when all is done; ``note``: at its end."""
        if self._bar is None:
            return
        self._bar.n = done
        self._bar.set_postfix_str(note)
        if done == self._bar.total:
            self._bar.close()
            self._bar = None


def say(line: str) -> None:
    """Print a line and flush it, also when output goes to a file.

    In one piece: a stop may come between a text and the end of its line.
    """
    print(f"{line}\n", end="", flush=True)


def check_failures(
    failed: int, slides: int, max_failures: float, suspicion: str = ""
) -> None:
    """Stop when a larger share of slides than ``max_failures`` gave no tile.

    ``suspicion``: added to the message.

    Raises:
        TooManyFailuresError: with the counts and the file that lists the reasons.
    """
    if slides and failed / slides > max_failures:
        raise TooManyFailuresError(
            f"{failed} of {slides} slides gave no tile, more than runtime.max_failures "
            f"{max_failures:g}: see failures.csv for the reasons; raise "
            f"runtime.max_failures to accept them{suspicion}"
        )
