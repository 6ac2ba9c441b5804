"""A sweep's choice on labels that patients have exchanged: could chance do as well?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.learning.targets import Target
from mshisto_ray.statistics.permutation import max_p_values
from mshisto_ray.store.manifest import write_text

_FOLDER = "permuted"
_STREAM = 4  # separates its random numbers from those of folds, refits, learning curves
_TRIES = 100
# Probabilities [N, C], target, fold and repeat [N] of some predictions.
_Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PermutedChoice:
    """Test metric of the chosen config, and of those chosen with permuted labels.

    ``permuted``: a value for each permutation that has one; ``p``: of the observed one;
    ``null``: what is true if labels mean nothing, of ``Experiment.null``.
    """

    metric: str
    observed: float
    permuted: tuple[float, ...]
    p: float
    null: str


def permuted(data: Any, config: Experiment, number: int) -> tuple[Any, list[Split]]:
    """Data after patients have exchanged their labels, and folds drawn for them.

    The same exchange for every config. One whose folds lack what the target needs is
    drawn again.

    Args:
        data: of the config.
        config: its split.
        number: of the permutation.

    Raises:
        InputError: no exchange of many has folds that can be used.
    """
    error, seed = None, config.split_config.seed
    for attempt in range(_TRIES):
        rng = np.random.default_rng([seed, number, attempt, _STREAM])
        exchanged = config.exchanged(data, rng)
        try:
            return exchanged, config.plan(exchanged)
        except InputError as problem:
            error = problem
    raise InputError(f"permutations: with exchanged labels {error}")


def run_permutation(
    folder: Path, data: Any, config: Experiment, metric: str, number: int
) -> None:
    """Train a config on exchanged labels; write its metric beside its result."""
    exchanged, splits = permuted(data, config, number)
    kind = config.kind
    found: dict[str, list[_Columns]] = {"val": [], "test": []}
    for test, validation in config.held_out(exchanged, splits):
        assert validation is not None
        kind = test.kind
        found["test"].append(_columns(test))
        found["val"].append(_columns(validation))
    values = {key: _value(kind, parts, metric) for key, parts in found.items()}
    known = {k: v if math.isfinite(v) else None for k, v in values.items()}
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    write_text(_file(folder, metric, number), json.dumps(known) + "\n")


def _columns(found: Predictions) -> _Columns:
    """What a metric needs: names of rows take most of the memory of many."""
    return found.probabilities, found.target, found.fold, found.repeat


def _value(kind: Target, parts: Sequence[_Columns], metric: str) -> float:
    """The metric of each repeat's predictions, the mean over repeats."""
    columns = (np.concatenate(part) for part in zip(*parts, strict=True))
    values, truth, fold, repeat = columns
    found = []
    for number in np.unique(repeat):
        rows = repeat == number
        found.append(kind.measure(values[rows], truth[rows], fold[rows])[metric][0])
    return float(np.mean(found))


def missing_permutations(folder: Path, metric: str, num: int) -> list[int]:
    """The first ``num`` permutations that a result has no values of."""
    return [n for n in range(num) if not _file(folder, metric, n).is_file()]


def read_permuted(
    folders: Mapping[str, Path],
    observed: float,
    metric: str,
    num: int,
    config: Experiment,
) -> PermutedChoice | None:
    """Choose in every permutation as the sweep does, by the mean on validation.

    Args:
        folders: of all configs.
        observed: test metric of the one that the sweep chose.
        metric: that chooses.
        num: of permutations.
        config: of the sweep.

    Returns:
        None where a config lacks a permutation, or the metric is never defined.
    """
    lacking = (missing_permutations(path, metric, num) for path in folders.values())
    if not num or any(lacking):
        return None
    sign = -1 if metric in config.kind.lower_is_better else 1
    values = [
        _choose([_read(_file(p, metric, n)) for p in folders.values()], sign)
        for n in range(num)
    ]
    defined = [value for value in values if math.isfinite(value)]
    if not defined:
        return None
    drawn = sign * np.array(defined)[:, None]
    p = max_p_values(np.array([sign * observed]), drawn)[0]
    return PermutedChoice(metric, observed, tuple(defined), float(p), config.null)


def _choose(found: Sequence[tuple[float, float]], sign: int) -> float:
    """Test value of the first config with the best validation value."""

    def key(pair: tuple[float, float]) -> float:
        return -math.inf if math.isnan(pair[0]) else sign * pair[0]

    return max(found, key=key)[1]


def _read(path: Path) -> tuple[float, float]:
    found = json.loads(path.read_text())
    val, test = (math.nan if found[k] is None else found[k] for k in ("val", "test"))
    return val, test


def _file(folder: Path, metric: str, number: int) -> Path:
    return folder / _FOLDER / f"{metric}-{number}.json"
