"""The points of a sweep: those of its axes that are trained, checked together."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.help import model_of
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.sweep.axes import SEARCHES, Axis, Range, SearchSpace, extremes
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.learning.sweep.searches import PointSearch

_GRID = Part(name="grid")
# Combinations of values that are checked before a search without end.
_MOST_CHECKED = 1000
# Suggestions a point, after which a search is taken to have no other ones.
_TRIES = 100


@dataclass(frozen=True)
class Point:
    """One config of a sweep; ``values``: what its axes are set to."""

    values: Mapping[str, Any]
    config: Experiment

    @property
    def label(self) -> str:
        """``pooling=attention, noise.sigma=0.1``; parts with their parameters."""
        return ", ".join(f"{k}={show(v)}" for k, v in self.values.items()) or "config"


def show(value: Any) -> str:
    """A value as one word: a part by its name, then its parameters; views joined."""
    if isinstance(value, Mapping) and "name" in value:
        rest = [f"{k}={show(v)}" for k, v in value.items() if k != "name"]
        return f"{value['name']}({', '.join(rest)})" if rest else str(value["name"])
    if isinstance(value, list | tuple) and value and all(map(_is_view, value)):
        return " + ".join(map(_show_view, value))
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _is_view(value: Any) -> bool:
    return isinstance(value, Mapping) and {"embeddings", "mpp"} <= set(value)


def _show_view(view: Mapping[str, Any]) -> str:
    """``embeddings 0.5`` or ``embeddings 0.5 gray``."""
    words = [Path(view["embeddings"]).name, f"{view['mpp']:g}", view.get("colour")]
    return " ".join(word for word in words if word)


def show_axis(axis: Axis) -> str:
    """The values of an axis in words."""
    if not isinstance(axis, Range):
        return ", ".join(show(value) for value in axis)
    marks = [name for name in ("log", "whole") if getattr(axis, name)]
    return ", ".join([f"{axis.low:g} to {axis.high:g}", *marks])


class PointMaker:
    """Makes points of the values of axes: a validated config each.

    Raises:
        InputError: an axis that no point has.
    """

    def __init__(self, base: Experiment, axes: Mapping[str, Axis]):
        self._class = base.point_class()
        self.space = SearchSpace(axes, self._class)
        fields = self._class.model_fields
        raw = base.model_dump(mode="json", include=set(fields))
        # Workers and MLflow runs are those of the sweep, not of its points.
        own = model_of(fields["runtime"].annotation)
        assert own is not None
        kept = set(own.model_fields) - {"mlflow"}
        raw["runtime"] = {k: v for k, v in raw["runtime"].items() if k in kept}
        self._base, self._raw = base, raw

    def make(self, values: Mapping[str, Any]) -> Point:
        """The point with these values of the axes that apply to it.

        Raises:
            InputError: it is not a valid config.
        """
        varied = self._raw
        point = Point(values, self._base)
        for key in self.space.keys:
            if key in values:
                value = self.space.as_part(key, values[key])
                varied = configs.set_key(varied, key, value)
        try:
            return Point(values, configs.validate(self._class, varied))
        except InputError as error:
            raise InputError(f"axes, at {point.label}: {error}") from None


def build_search(search: Part) -> PointSearch:
    """The search of a sweep; raises InputError where it cannot run."""
    return components.build(SEARCHES, search)


def expand(
    base: Experiment, axes: Mapping[str, Axis], search: Part = _GRID
) -> tuple[Point, ...]:
    """The points of a search, each a validated config.

    Of a search that learns from results: every combination of values and ends of
    ranges (at most 1,000), which are to be valid before any is trained.

    Raises:
        InputError: a point is not a valid config (named by its values), two points of a
            grid are equal, or there are fewer than the search wants.
    """
    maker, drawn = PointMaker(base, axes), build_search(search)
    if not any(isinstance(axis, Range) for axis in axes.values()):
        _check_number(maker, drawn)
    points: dict[str, Point] = {}
    for values in _suggestions(maker.space, drawn):
        point = maker.make(values)
        key = point.config.model_dump_json()
        if key not in points:
            points[key] = point
        elif drawn.points is None and len(values) == len(axes):
            raise InputError(
                f"axes: {point.label} and {points[key].label} are the same config"
            )
        if len(points) == drawn.points and not drawn.learns:
            break
    if drawn.points and not drawn.learns and len(points) < drawn.points:
        raise InputError(
            f"search.points={drawn.points}: only {len(points)} different configs were "
            "found on the axes: give fewer, or wider axes"
        )
    return tuple(points.values())


def _suggestions(space: SearchSpace, search: PointSearch) -> Iterator[dict[str, Any]]:
    if search.learns:
        for values in itertools.islice(extremes(space.axes), _MOST_CHECKED):
            yield space.complete(values)
        return
    for number in itertools.count():
        values = search.suggest(space, number, ())
        if values is None or (search.points and number > _TRIES * search.points):
            return
        yield values


def _check_number(maker: PointMaker, search: PointSearch) -> None:
    """Refuse a search of more points than lists of values have combinations."""
    if search.points is None:
        return
    found = itertools.islice(extremes(maker.space.axes), search.points * _TRIES)
    num = len({json.dumps(maker.space.complete(v), default=str) for v in found})
    if num < search.points:
        raise InputError(
            f"search.points={search.points}: the axes have {num} different configs: "
            "give fewer points, or search=grid for all"
        )


def check_select(
    points: Sequence[Point], splits: Sequence[Split], select: str | None
) -> None:
    """Raise InputError where there are no validation bags to choose a point by."""
    chooses = select and len(points) > 1
    if chooses and not all(len(split.validation) for split in splits):
        raise InputError(
            "split.validation is 0, so there is no val_ metric to choose a config by: "
            "give split.validation=0.2, or select=null to compare without choosing"
        )


class PointCheck:
    """Checks the input of points as they come; the data of each input is read once.

    Attributes:
        notes: lines for the user.
        packs: see ``Experiment.pack_key``, by digest.
    """

    def __init__(self, select: str | None):
        self._select = select
        self._loaded: dict[str, tuple[Any, Sequence[Split]]] = {}
        self.notes: list[str] = []
        self.packs: dict[str, str | None] = {}

    def add(self, points: Sequence[Point]) -> dict[str, Point]:
        """The points by the digest of their results.

        Raises:
            InputError: as of ``check``.
        """
        found: dict[str, Point] = {}
        for point in points:
            config = point.config
            source = config.source()
            if source not in self._loaded:
                self._loaded[source] = self._check(point)
                self._check_rows(points, point)
            data, splits = self._loaded[source]
            _check_model(point, data, splits)
            digest = config.digest_of(data)
            found[digest] = point
            self.packs[digest] = config.pack_key(data, splits)
            new = [line for line in config.notes(data) if line not in self.notes]
            self.notes += new
        return found

    def _check(self, point: Point) -> tuple[Any, Sequence[Split]]:
        """Data and splits; what is wrong only at later points is said to be there."""
        if not self._loaded:
            return point.config.check()
        with _named(point):
            return point.config.check()

    def _check_rows(self, points: Sequence[Point], point: Point) -> None:
        data, splits = self._loaded[point.config.source()]
        check_select(points, splits, self._select)
        first, _ = next(iter(self._loaded.values()))
        problem = point.config.check_same(data, first)
        if problem:
            raise InputError(f"axes, at {point.label}: {problem}")


def check(
    points: Sequence[Point], select: str | None
) -> tuple[dict[str, Point], list[str]]:
    """Check the input of every point.

    Returns:
        The points by the digest of their results; lines for the user.

    Raises:
        InputError: input cannot be used, rows differ between points, or there are no
            validation rows to choose by.
    """
    checked = PointCheck(select)
    return checked.add(points), checked.notes


def _check_model(point: Point, data: Any, splits: Sequence[Split]) -> None:
    with _named(point):
        point.config.check_model(data, splits)


@contextlib.contextmanager
def _named(point: Point) -> Iterator[None]:
    """Begin an InputError with the values of the axes that it arose at."""
    try:
        yield
    except InputError as error:
        where = f"axes, at {point.label}: " if point.values else ""
        raise InputError(f"{where}{error}") from None
