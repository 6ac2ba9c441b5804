"""The axes of a sweep: which keys vary over which values, and which belong together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, field_validator, model_validator

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputError, option
from mshisto_ray.learning.sweep.axis_keys import check_key, families, flat

SEARCHES = "mshisto_ray.learning.sweep.searches"
# Results can only be compared on the same rows, labels and folds.
_COMMON = (
    "task", "cohort", "columns", "tiles", "unit", "target", "split", "decision",
    "runtime",
)  # fmt: skip
_DIGITS = 3  # of a drawn number: more say nothing and are hard to read


class Range(Config):
    """An axis of numbers between two ends, both included."""

    low: float = option(text="least value")
    high: float = option(text="greatest value")
    log: bool = option(False, "drawn evenly in its logarithm")
    whole: bool = option(False, "whole numbers alone")

    @model_validator(mode="after")
    def _has_ends(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low has to be below high, got {self.low}, {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log: low has to be above 0, got {self.low}")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"whole: low and high too, got {self.low}, {self.high}")
        return self

    def at(self, share: float) -> float:
        """The value at a share in [0, 1) of the way, of three digits."""
        low, high = self.low, self.high + self.whole
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        return self.readable(math.floor(value) if self.whole else value)

    def readable(self, value: float) -> float:
        """A value within the range, whole or of three digits."""
        rounded = round(value) if self.whole else float(f"{value:.{_DIGITS}g}")
        ends = (int(self.low), int(self.high)) if self.whole else (self.low, self.high)
        return min(max(rounded, ends[0]), ends[1])


Axis = tuple[Any, ...] | Range


def _read_axis(value: Any) -> Any:
    if isinstance(value, Range):
        return value
    if isinstance(value, Mapping):
        try:
            return configs.validate(Range, value)
        except InputError as error:
            text = "; ".join(str(error).splitlines())
            raise ValueError(f"{text}: a range is {{low: 1e-5, high: 0.01}}") from None
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError(f"give a list of values or a range, got {value!r}")


Axes = Annotated[
    dict[str, Annotated[Axis, BeforeValidator(_read_axis)]], BeforeValidator(flat)
]


class AxesConfig(Config):
    """The axes of a sweep, and the metric that chooses the best config."""

    axes: Axes = option(
        {},
        "{key: values}, or {key: {low: 1e-5, high: 0.01, log: true}}; pooling.hidden "
        "is of those values of the axis pooling that have it",
    )
    search: Annotated[Part, Family(SEARCHES)] = option(
        Part(name="grid"), "which points of the axes are trained"
    )
    select: str | None = option(
        "auto",
        "val_ metric that the best config is chosen by; auto: that of the target, of "
        "classes auroc; null: none is chosen",
    )

    @field_validator("axes")
    @classmethod
    def _are_axes(cls, axes: Axes) -> Axes:
        for key, values in axes.items():
            if values == ():
                raise ValueError(f"{key}: give at least one value")
            if key.split(".")[0] in _COMMON:
                raise ValueError(
                    f"{key}: has to be the same for all configs, or their results "
                    "cannot be compared"
                )
        return axes

    @model_validator(mode="after")
    def _search_suits_the_axes(self) -> AxesConfig:
        ranges = [key for key, axis in self.axes.items() if isinstance(axis, Range)]
        if ranges and self.search.name == "grid":
            raise ValueError(
                f"search: grid takes every value, and axes.{ranges[0]} is a range: "
                "give a list, or search={name: random, points: 20}"
            )
        if not self.axes and self.search.name != "grid":
            raise ValueError(f"search: {self.search.name} needs axes to search")
        if self.search.name == "optuna" and self.select is None:
            raise ValueError(
                "search: optuna learns from the metric that chooses: give select=auto, "
                "or search={name: random, points: 20}"
            )
        return self


class SearchSpace:
    """The points of axes, with the parameters that belong to one part alone.

    ``pooling.hidden`` beside an axis ``pooling`` is a parameter of those of its values
    that have it; points of the others do without.

    Args:
        axes: by key.
        point_class: config of a point, which knows the family of each key.

    Raises:
        InputError: a key that no config has, a parameter that no value of its part has.
    """

    def __init__(self, axes: Mapping[str, Axis], point_class: type[Config]):
        self.axes = axes
        self._families = families(point_class)
        # A part before its parameters, which it would replace.
        self.keys = sorted(axes, key=lambda key: key.count("."))
        for key in axes:
            check_key(key, point_class, AxesConfig)
            self._check(key)

    def applies(self, key: str, values: Mapping[str, Any]) -> bool:
        """Whether a key belongs to a point, given the values of its shorter keys."""
        owner, _, parameter = key.partition(".")
        if not parameter or owner not in values or owner not in self._families:
            return True
        return _takes(self._families[owner], values[owner], parameter)

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values without the keys that do not apply, in the order of the axes."""
        return {
            key: values[key]
            for key in self.axes
            if key in values and self.applies(key, values)
        }

    def as_part(self, key: str, value: Any) -> Any:
        """A part given by its name alone as a mapping, so that keys can be set."""
        named = key in self._families and isinstance(value, str)
        return {"name": value} if named else value

    def _check(self, key: str) -> None:
        owner, _, parameter = key.partition(".")
        axis, family = self.axes.get(owner), self._families.get(owner)
        if not parameter or family is None or not isinstance(axis, tuple):
            return
        if not any(_takes(family, value, parameter) for value in axis):
            takes = [f"{_name(v)} takes {_parameters(family, v)}" for v in axis]
            raise InputError(
                f"axes.{key}: no value of the axis {owner} has {parameter!r}: "
                + "; ".join(dict.fromkeys(takes))
            )


def _takes(family: str, value: Any, parameter: str) -> bool:
    try:
        schema = components.schema(family, _name(value))
    except ValueError:
        return True  # no such part: the point says so
    free = schema.model_config.get("extra") == "allow"
    return free or parameter.split(".")[0] in schema.model_fields


def _parameters(family: str, value: Any) -> str:
    found = components.schema(family, _name(value)).model_fields
    return ", ".join(found) or "none"


def _name(value: Any) -> str:
    return str(value.get("name") if isinstance(value, Mapping) else value)


def extremes(axes: Mapping[str, Axis]) -> Iterator[dict[str, Any]]:
    """Every combination of listed values and ends of ranges."""
    names = list(axes)
    listed = [
        (axis.readable(axis.low), axis.readable(axis.high))
        if isinstance(axis, Range)
        else axis
        for axis in axes.values()
    ]
    for number in range(math.prod(len(values) for values in listed)):
        found: dict[str, Any] = {}
        for key, values in zip(reversed(names), reversed(listed), strict=True):
            number, place = divmod(number, len(values))
            found[key] = values[place]
        yield found
