"""Attempt markers, which limit the retries of a unit of work that kills its process.

A marker file is made before each attempt and all are removed when the unit has its
shard, so the markers left after a crash count the attempts of all processes. A driver
that was stopped, or killed, took its workers along: the next one removes each unit's
last marker, which counts that end and no fault of the unit. The marker of an attempt
that a watchdog ended says so: a storage that does not answer damages no slide. A marker
holds the tiles that its attempt has made so far, where that takes long.
"""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

from mshisto_ray.store.errors import UnitError
from mshisto_ray.store.file_names import file_name

# Of each unit in one run, for as long as the watchdog waits.
_MOST_HANGS = 2
_HUNG = "-hung"


def forgive_last(out: Path) -> None:
    """Remove the last marker of every unit: its process ended with its driver's."""
    folder = out / "attempts"
    newest: dict[str, Path] = {}
    for marker in folder.iterdir() if folder.is_dir() else ():
        unit = _unit_of(marker)
        if unit not in newest or _made(marker) > _made(newest[unit]):
            newest[unit] = marker
    for marker in newest.values():
        marker.unlink(missing_ok=True)


def tiles_at_work(out: Path) -> int:
    """Tiles made in units that are not finished, as far as workers recorded them."""
    found: dict[str, tuple[int, int]] = {}
    folder = out / "attempts"
    for marker in folder.iterdir() if folder.is_dir() else ():
        try:
            latest = _made(marker), int(marker.read_text() or 0)
        except (OSError, ValueError):  # just now removed, or half written
            continue
        unit = _unit_of(marker)
        found[unit] = max(latest, found.get(unit, latest))
    return sum(tiles for _, tiles in found.values())


def _made(marker: Path) -> int:
    return marker.stat().st_mtime_ns


def _unit_of(marker: Path) -> str:
    # A slide_id may contain dots: everything before the last one.
    return marker.name.rpartition(".")[0]


class Attempts:
    """Markers of one unit of work in a stage directory."""

    def __init__(self, out: Path, unit: str):
        self._folder = out / "attempts"
        self._unit = file_name(unit)
        self._own: Path | None = None

    def begin(self) -> int:
        """Add a marker; return the number of the attempt, 1 for the first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._own = self._folder / f"{self._unit}.{uuid.uuid4().hex[:12]}"
        self._own.touch()
        return len(self._markers())

    def record(self, tiles: int) -> None:
        """Note in this attempt's marker how many tiles it has made."""
        with contextlib.suppress(OSError):  # renamed, or the storage is full
            if self._own:
                with self._own.open("r+") as file:
                    file.write(str(tiles))

    def record_hang(self) -> None:
        """Mark this attempt as one that a watchdog is about to end."""
        if self._own:
            self._own.rename(f"{self._own}{_HUNG}")

    def hangs(self) -> int:
        """Number of attempts at the unit that a watchdog ended."""
        return sum(marker.name.endswith(_HUNG) for marker in self._markers())

    def check_hangs(self) -> None:
        """Raise UnitError ``Hung`` once attempts at the unit have hung repeatedly."""
        hangs = self.hangs()
        if hangs >= _MOST_HANGS:
            raise UnitError(
                "Hung",
                f"its file, or what reads it, did not answer {hangs} times: retried by "
                "the next run; where many slides do so, look at the storage",
            )

    def end(self) -> None:
        """Remove the markers of the unit, whose shard is written."""
        for marker in self._markers():
            marker.unlink(missing_ok=True)

    def _markers(self) -> list[Path]:
        return [p for p in self._folder.iterdir() if _unit_of(p) == self._unit]
