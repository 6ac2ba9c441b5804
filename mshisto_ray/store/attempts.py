"""Attempt markers, which limit the retries of a unit of work that kills its process.

A marker file is made before each attempt and all are removed when the unit has its
shard, so the markers left after a crash count the attempts of all processes.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from mshisto_ray.store.file_names import file_name


class Attempts:
    """Markers of one unit of work in a stage directory."""

    def __init__(self, out: Path, unit: str):
        self._folder = out / "attempts"
        self._unit = file_name(unit)

    def begin(self) -> int:
        """Add a marker; return the number of the attempt, 1 for the first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{self._unit}.{uuid.uuid4().hex[:12]}").touch()
        return len(self._markers())

    def end(self) -> None:
        """Remove the markers of the unit, whose shard is written."""
        for marker in self._markers():
            marker.unlink(missing_ok=True)

    def _markers(self) -> list[Path]:
        # A slide_id may contain dots: compare everything before the last one.
        return [p for p in self._folder.iterdir() if p.name[:-13] == self._unit]
