"""The points of a sweep as they are handed out: all known, or suggested one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mshisto_ray.components import Part
from mshisto_ray.learning.sweep.axes import Axis
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.learning.sweep.points import (
    Point,
    PointCheck,
    PointMaker,
    build_search,
    expand,
)
from mshisto_ray.learning.sweep.searches import Tried
from mshisto_ray.store.manifest import write_text

RECORD = "search.json"
# Suggestions of known points, after which a search is taken to have no other ones.
_REPEATS = 50


class Swept(Protocol):
    """What a sweep's config says of its points."""

    @property
    def axes(self) -> Mapping[str, Axis]:
        """What varies."""
        ...

    @property
    def search(self) -> Part:
        """Which points are trained."""
        ...

    @property
    def chosen_by(self) -> str | None:
        """The metric that chooses."""
        ...


class PointSource:
    """Points of a sweep by the digest of their results, in the order of their making.

    A search that learns records its suggestions in ``out/search.json``, so that one
    that was killed resumes with the same points.

    Args:
        base: config of the sweep.
        swept: the same, as to its points.
        out: directory of the sweep.

    Attributes:
        points: those known so far.
        begun: digests of those handed out.
        first: a valid config of the axes.
        notes: lines for the user.

    Raises:
        InputError: as of ``sweep.expand`` and ``sweep.check``.
    """

    def __init__(self, base: Experiment, swept: Swept, out: Path):
        self._search = build_search(swept.search)
        self._maker = PointMaker(base, swept.axes)
        self._check = PointCheck(swept.chosen_by)
        self._file, self._asked = out / RECORD, 0
        self._key = _identity(base, swept)
        self.begun: set[str] = set()
        checked = expand(base, swept.axes, swept.search)
        first = self._check.add(checked)
        self.first = checked[0].config
        self.points: dict[str, Point] = {} if self._search.learns else first
        if self._search.learns:
            self._read()

    @property
    def notes(self) -> list[str]:
        """Lines for the user."""
        return self._check.notes

    @property
    def total(self) -> int:
        """How many points there are to be."""
        return (self._search.points if self._search.learns else None) or len(
            self.points
        )

    def take(
        self,
        is_done: Callable[[str], bool],
        tried: Callable[[str, Point], Tried],
        most: int = 1,
    ) -> dict[str, Point]:
        """Points to train at once, each handed out once; empty: there is none.

        Args:
            is_done: whether a point has all that is wanted of it, by digest.
            tried: what is known of a point.
            most: how many points may be trained at once; a search that learns gives
                one after another.
        """
        pack: dict[str, Point] = {}
        key = None
        for digest, point in self.points.items():
            own = self._check.packs[digest]
            fits = not pack or (own is not None and own == key)
            if fits and digest not in self.begun and not is_done(digest):
                pack[digest], key = point, own
            if len(pack) == most:
                break
        self.begun |= pack.keys()
        if pack:
            return pack
        while self._search.learns and len(self.points) < self.total:
            new = self._suggest([tried(d, p) for d, p in self.points.items()])
            if new is None:
                return {}
            if not is_done(new):
                self.begun.add(new)
                return {new: self.points[new]}
        return {}

    def remaining(self, is_done: Callable[[str], bool]) -> int:
        """How many points have not been handed out and are not done."""
        open_ones = [d for d in self.points if d not in self.begun]
        return sum(not is_done(d) for d in open_ones) + self.total - len(self.points)

    def _suggest(self, tried: Sequence[Tried]) -> str | None:
        """Add a point that is not known yet; None: the search finds none."""
        for _ in range(_REPEATS):
            values = self._search.suggest(self._maker.space, self._asked, tried)
            self._asked += 1
            if values is None:
                return None
            (digest,) = self._add(values)
            if digest not in self.points:
                self.points |= self._add(values)
                self._write()
                return digest
        return None

    def _add(self, values: Mapping[str, Any]) -> dict[str, Point]:
        return self._check.add([self._maker.make(values)])

    def _write(self) -> None:
        points = [dict(point.values) for point in self.points.values()]
        record = {"search": self._key, "asked": self._asked, "points": points}
        write_text(self._file, json.dumps(record, indent=1, default=str) + "\n")

    def _read(self) -> None:
        if not self._file.is_file():
            return
        record = json.loads(self._file.read_text())
        if record["search"] != self._key:
            return
        self._asked = record["asked"]
        for values in record["points"][: self.total]:
            self.points |= self._add(values)


def _identity(base: Experiment, swept: Swept) -> str:
    """What decides the suggestions of a search, apart from how many are wanted."""
    parameters = {k: v for k, v in swept.search.parameters.items() if k != "points"}
    whole = {
        "search": [swept.search.name, parameters],
        "axes": {key: _plain(axis) for key, axis in swept.axes.items()},
        "select": swept.chosen_by,
        "config": base.model_dump(
            mode="json", include=set(base.point_class().model_fields) - {"runtime"}
        ),
    }
    text = json.dumps(whole, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _plain(axis: Axis) -> Any:
    return list(axis) if isinstance(axis, tuple) else axis.model_dump()
