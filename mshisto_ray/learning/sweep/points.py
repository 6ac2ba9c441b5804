"""The points of a sweep: every combination of its axes, checked together."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import field_validator

from mshisto_ray import config as configs
from mshisto_ray.config import Config, InputError, option
from mshisto_ray.help import model_of
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.sweep.experiment import Experiment

# Results can only be compared on the same rows, labels and folds.
_COMMON = (
    "task", "cohort", "columns", "tiles", "unit", "target", "split", "decision",
    "runtime",
)  # fmt: skip


class AxesConfig(Config):
    """The axes of a sweep, and the metric that chooses the best config."""

    axes: dict[str, tuple[Any, ...]] = option(
        {}, "{key: values}; one config per combination of values"
    )
    select: str | None = option(
        "auto",
        "val_ metric that the best config is chosen by; auto: that of the target, of "
        "classes auroc; null: none is chosen",
    )

    @field_validator("axes")
    @classmethod
    def _are_axes(cls, axes: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in axes.items():
            if not values:
                raise ValueError(f"{key}: give at least one value")
            if key.split(".")[0] in _COMMON:
                raise ValueError(
                    f"{key}: has to be the same for all configs, or their results "
                    "cannot be compared"
                )
        return axes


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


def expand(base: Experiment, axes: Mapping[str, Sequence[Any]]) -> tuple[Point, ...]:
    """Every combination of the axes' values as a validated config.

    Raises:
        InputError: a point is not a valid config (named by its values), or two
            points are equal.
    """
    point_class = base.point_class()
    raw = base.model_dump(mode="json", include=set(point_class.model_fields))
    # Workers and MLflow runs are those of the sweep, not of its points.
    own = model_of(point_class.model_fields["runtime"].annotation)
    assert own is not None
    kept = set(own.model_fields) - {"mlflow"}
    raw["runtime"] = {k: v for k, v in raw["runtime"].items() if k in kept}
    points: dict[str, Point] = {}
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        varied = raw
        # A part before its parameters, in whatever order the axes are given.
        for key in sorted(values, key=lambda key: key.count(".")):
            value = values[key]
            if isinstance(value, str) and any(k.startswith(f"{key}.") for k in values):
                value = {"name": value}
            varied = configs.set_key(varied, key, value)
        point = Point(values, base)
        try:
            config = configs.validate(point_class, varied)
        except InputError as error:
            raise InputError(f"axes, at {point.label}: {error}") from None
        key = config.model_dump_json()
        if key in points:
            raise InputError(
                f"axes: {point.label} and {points[key].label} are the same config"
            )
        points[key] = Point(values, config)
    return tuple(points.values())


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
    loaded: dict[str, Any] = {}
    planned: dict[str, Sequence[Split]] = {}
    found: dict[str, Point] = {}
    notes: list[str] = []
    for point in points:
        config = point.config
        source = config.source()
        if source not in loaded:
            loaded[source], planned[source] = config.check()
            check_select(points, planned[source], select)
            problem = config.check_same(loaded[source], next(iter(loaded.values())))
            if problem:
                raise InputError(f"axes, at {point.label}: {problem}")
        _check_model(point, loaded[source], planned[source])
        found[config.digest_of(loaded[source])] = point
        notes += config.notes(loaded[source])
    return found, list(dict.fromkeys(notes))


def _check_model(point: Point, data: Any, splits: Sequence[Split]) -> None:
    try:
        point.config.check_model(data, splits)
    except InputError as error:
        where = f"axes, at {point.label}: " if point.values else ""
        raise InputError(f"{where}{error}") from None
