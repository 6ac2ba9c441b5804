"""The points of a sweep: every combination of its axes, checked together."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import field_validator

from mshisto_ray import config as configs
from mshisto_ray.config import Config, InputError, option
from mshisto_ray.learning.split import Split
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.input.bags import Bags

# Results can only be compared on the same bags, labels and folds.
_COMMON = ("cohort", "columns", "unit", "target", "split", "decision", "runtime")


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
    config: ExperimentConfig

    @property
    def label(self) -> str:
        """``pooling=attention, noise.sigma=0.1``; parts with their parameters."""
        return ", ".join(f"{k}={show(v)}" for k, v in self.values.items()) or "config"


def show(value: Any) -> str:
    """A value as one word: a part by its name, then its parameters."""
    if isinstance(value, Mapping) and "name" in value:
        rest = [f"{k}={show(v)}" for k, v in value.items() if k != "name"]
        return f"{value['name']}({', '.join(rest)})" if rest else str(value["name"])
    return value if isinstance(value, str) else json.dumps(value, default=str)


def expand(
    base: ExperimentConfig, axes: Mapping[str, Sequence[Any]]
) -> tuple[Point, ...]:
    """Every combination of the axes' values as a validated config.

    Raises:
        InputError: a point is not a valid config (named by its values), or two
            points are equal.
    """
    names = set(ExperimentConfig.model_fields) - {"runtime"}
    raw = base.model_dump(mode="json", include=names)
    # Workers and MLflow runs are those of the sweep, not of its points.
    raw["runtime"] = base.runtime.model_dump(mode="json", include={"cache"})
    points: dict[str, Point] = {}
    for combination in itertools.product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        varied = raw
        for key, value in values.items():
            varied = configs.set_key(varied, key, value)
        point = Point(values, base)
        try:
            config = configs.validate(ExperimentConfig, varied)
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
        InputError: input cannot be used, bags differ between points, or there are no
            validation bags to choose by.
    """
    loaded: dict[str, Bags] = {}
    found: dict[str, Point] = {}
    notes: list[str] = []
    for point in points:
        config = point.config
        source = json.dumps(
            config.model_dump(
                mode="json",
                include={"embeddings", "bags", "scale", "scales", "early_stopping"},
            )
        )
        if source not in loaded:
            loaded[source], splits = experiment.check(config)
            check_select(points, splits, select)
            _check_same(next(iter(loaded.values())), loaded[source], point)
        found[experiment.digest(config, loaded[source])] = point
        notes += experiment.notes(config, loaded[source])
    return found, list(dict.fromkeys(notes))


def _check_same(first: Bags, other: Bags, point: Point) -> None:
    def key(bags: Bags) -> list[Any]:
        assert bags.targets is not None
        columns = bags.kind.truth_columns(bags.targets, bags.classes).values()
        labels = map(repr, zip(*(c.to_pylist() for c in columns), strict=True))
        return sorted(zip(bags.names, bags.patient_ids, labels, strict=True))

    if key(first) != key(other):
        raise InputError(
            f"axes, at {point.label}: other bags, patients or labels than at the first "
            "point; results on different bags cannot be compared"
        )
    with_tiles = [set(np.array(b.names)[b.sizes > 0]) for b in (first, other)]
    torn = sorted(with_tiles[0] ^ with_tiles[1])
    if torn:
        raise InputError(
            f"axes, at {point.label}: {len(torn)} bags have instances there or at the "
            f"first point but not at both ({', '.join(torn[:5])}"
            f"{', ...' if torn[5:] else ''}); results on different bags cannot be "
            "compared: take them out of the cohort, or sweep each scale by itself"
        )
