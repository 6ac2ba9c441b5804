"""Progress lines of a running stage, and the check that stops a failing one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from mshisto_ray.config import TooManyFailuresError

_EVERY_S = 5.0
_CHECK_AFTER_SLIDES = 20


class Progress:
    """Counts finished units; prints a line every few seconds.

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
        # Of the first unit, as far as its row tells: workers start before.
        self._began = float("inf")
        self._printed = self._started
        self._reasons: Counter[tuple[str, str]] = Counter()
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
        if now - self._printed >= _EVERY_S or self.units == self._num_units:
            say(self.line())
            self._printed = now
        if self.slides >= _CHECK_AFTER_SLIDES:
            check_failures(
                self.failed, self.slides, self._max_failures, self._suspicion()
            )

    def _suspicion(self) -> str:
        """What most units failed by, where that says more about their storage."""
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


def say(line: str) -> None:
    """Print a line and flush it, also when output goes to a file."""
    print(line, flush=True)


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
