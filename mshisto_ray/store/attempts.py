"""Attempt markers: a unit of work that kills its process must not loop for ever.

A marker file is made before each attempt and all are removed when the unit has its
shard, so what is left after a crash counts the attempts, whoever made them.
"""

from __future__ import annotations

import uuid
from pathlib import Path


class Attempts:
    """Markers of one unit of work in a stage directory."""

    def __init__(self, out: Path, unit: str):
        self._folder = out / "attempts"
        self._unit = unit

    def begin(self) -> int:
        """Mark another attempt; returns its number, 1 for the first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{self._unit}.{uuid.uuid4().hex[:12]}").touch()
        return len(self._markers())

    def end(self) -> None:
        """The unit is done: remove its markers."""
        for marker in self._markers():
            marker.unlink(missing_ok=True)

    def _markers(self) -> list[Path]:
        # A slide_id may hold dots: compare all before the last one.
        return [p for p in self._folder.iterdir() if p.name[:-13] == self._unit]
