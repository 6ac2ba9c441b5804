"""The interface of a study: units of work with predictions, and their table."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.metrics import auroc
from mshisto_ray.learning.predictions import Predictions, concatenate
from mshisto_ray.mil.model import POOLINGS, needs_places
from mshisto_ray.statistics.bootstrap import Interval


@dataclass(frozen=True)
class UnitResult:
    """Predictions of a unit's held-out bags, and other numbers of it.

    ``area``: predictions of the same models for the bags' annotated area, if known;
    ``device``: what trained them; ``pictures``: by name, for who looks at them.
    """

    predictions: Predictions
    extras: Mapping[str, float]
    area: Predictions | None = None
    device: str = "cpu"
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)


@dataclass(frozen=True)
class SweptPoint:
    """A config of a sweep, with the share of its models that have learned."""

    test: Predictions
    validation: Predictions
    trained: float


@dataclass(frozen=True)
class UnitSweep:
    """A unit that is a sweep, with the files, report and MLflow runs of any sweep.

    ``settings``: keys of ``mshisto sweep`` but ``bags``, ``out`` and ``runtime``;
    ``bags``: makes the table of bags; ``conclude``: the unit's result of its points, in
    their order.
    """

    settings: Mapping[str, Any]
    bags: Callable[[], pa.Table]
    conclude: Callable[[Sequence[SweptPoint]], UnitResult]


@dataclass(frozen=True)
class StudyUnit:
    """A piece of work that is finished or repeated as a whole, on any machine.

    ``name``: a file's stem; ``recipe``: JSON values that decide the result, the
    fingerprint of the data among them, and no path; ``run``: makes the result;
    ``core_hours``: an estimate of its cost, if there is one.
    """

    name: str
    recipe: Mapping[str, Any]
    run: Callable[[], UnitResult] | UnitSweep
    core_hours: float | None = None


class Study(Protocol):
    """Experiments of a paper; building one checks its data."""

    def units(self) -> Sequence[StudyUnit]:
        """Pieces of work, those that matter most first."""
        ...

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """Markdown in the paper's layout, of the units that are done."""
        ...


def constant_rate(training: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings with a rate that neither rises nor falls, as in the papers."""
    constant = {"schedule": "constant", "warmup_steps": 0}
    return {**training, "optimiser": {**training["optimiser"], **constant}}


def check_part(family: str, part: Part, key: str) -> Part:
    """A part named in a study's settings, with its defaults filled in.

    Raises:
        InputError: see ``components.check``.
    """
    try:
        return components.check(family, part)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from None


def check_pooling(name: str) -> None:
    """Refuse a pooling that the studies of images cannot run.

    Raises:
        InputError: no such pooling, or one that needs the places of tiles.
    """
    check_part(POOLINGS, Part(name=name), "study.poolings")
    if needs_places(name):
        raise InputError(
            f"study.poolings: {name} looks at neighbouring tiles, and these images "
            "have no places"
        )


def fast_device() -> tuple[torch.device, str]:
    """A GPU where there is one, and its name, for ``UnitResult.device``."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.cuda.get_device_name()
    return torch.device("cpu"), "cpu"


def fingerprint(path: Path) -> str:
    """Digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def merge(parts: Sequence[UnitResult]) -> Predictions:
    """Predictions of several units, each a repeat of its own where bags recur."""
    seen: dict[str, int] = {}
    found = []
    for part in parts:
        bags, own = part.predictions.bag, part.predictions.repeat
        first = max((seen.get(bag, 0) for bag in bags), default=0)
        shift = int(first - own.min(initial=0 if not len(own) else own[0]))
        column = own + shift
        for bag, repeat in zip(bags, column.tolist(), strict=True):
            seen[bag] = max(seen.get(bag, 0), repeat + 1)
        known = part.predictions.models.items()
        models = {(repeat + shift, fold): one for (repeat, fold), one in known}
        found.append(
            dataclasses.replace(part.predictions, repeat=column, models=models)
        )
    return concatenate(found)


def measure(parts: Sequence[UnitResult]) -> dict[str, Interval]:
    """Metrics of the units' predictions with 95 % intervals over patients."""
    return intervals(merge(parts))


def aurocs_by(what: str, parts: Sequence[UnitResult]) -> list[float]:
    """AUROC within each ``fold`` (of units of one repeat) or each ``repeat``.

    Folds of one class have none and are left out.
    """
    merged = concatenate([part.predictions for part in parts])
    column = {"fold": merged.fold, "repeat": merged.repeat}[what]
    rows = [column == value for value in np.unique(column)]
    found = [auroc(merged.probabilities[r], merged.target[r]) for r in rows]
    return [value for value in found if value == value]


def mean(values: Sequence[float]) -> str:
    """``.948 +- .038``: mean and its standard error; empty for fewer than two."""
    if len(values) < 2:
        return ""
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{short(float(np.mean(values)))} +- {short(error)}"


def cell(value: Interval) -> str:
    """An interval as ``.892 (.831 to .941)``; where there is none, the value alone."""
    if np.isnan(value.low):
        return short(value.value)
    return f"{short(value.value)} ({short(value.low)} to {short(value.high)})"


def short(value: float) -> str:
    """A number with three decimals, without the zero before the point."""
    return "" if np.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
