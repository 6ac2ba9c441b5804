"""Points that Optuna's tree-structured Parzen estimator suggests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from mshisto_ray.config import InputError
from mshisto_ray.learning.sweep.axes import Axis, Range, SearchSpace
from mshisto_ray.learning.sweep.searches import PointSearch, Tried

if TYPE_CHECKING:
    import optuna


def build(
    *, points: Annotated[int, Field(ge=1)], seed: Annotated[int, Field(ge=0)] = 0
) -> PointSearch:
    """Suggest points near those that did well on validation.

    The first ten are drawn at random. Needs the package optuna.

    Source: Bergstra et al. 2011, the tree-structured Parzen estimator.

    Raises:
        InputError: optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError(
            "search: optuna is not installed: pip install 'mshisto-ray[search]', or "
            "give search={name: random, points: 20}"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return _Parzen(points, seed)


@dataclass(frozen=True)
class _Parzen:
    points: int
    seed: int
    learns: bool = True

    def suggest(
        self, space: SearchSpace, number: int, tried: Sequence[Tried]
    ) -> dict[str, Any] | None:
        import optuna

        # A study of its own for every suggestion: a study that lives in a process ends
        # with it, and what it would have suggested next.
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for point in tried:
            if point.score is not None:
                study.add_trial(_as_trial(space, point, point.score))
        trial, values = study.ask(), {}
        for key in space.keys:
            if space.applies(key, values):
                values[key] = _suggest(trial, key, space.axes[key])
        return space.complete(values)


def _suggest(trial: optuna.Trial, key: str, axis: Axis) -> Any:
    if not isinstance(axis, Range):
        return axis[trial.suggest_categorical(key, range(len(axis)))]
    ends = axis.low, axis.high
    if axis.whole:
        return trial.suggest_int(key, int(ends[0]), int(ends[1]), log=axis.log)
    return axis.readable(trial.suggest_float(key, *ends, log=axis.log))


def _as_trial(
    space: SearchSpace, point: Tried, score: float
) -> optuna.trial.FrozenTrial:
    """A point as Optuna knows it: values of lists by their places."""
    import optuna

    kinds, params = {}, {}
    for key, value in point.values.items():
        axis = space.axes[key]
        if not isinstance(axis, Range):
            kinds[key] = optuna.distributions.CategoricalDistribution(range(len(axis)))
            params[key] = [json.dumps(v) for v in axis].index(json.dumps(value))
            continue
        if axis.whole:
            ends = int(axis.low), int(axis.high)
            kinds[key] = optuna.distributions.IntDistribution(*ends, log=axis.log)
        else:
            ends = axis.low, axis.high
            kinds[key] = optuna.distributions.FloatDistribution(*ends, log=axis.log)
        params[key] = value
    states = optuna.trial.TrialState
    # Of one that was pruned only the order counts, after all that were not.
    return optuna.trial.create_trial(
        state=states.PRUNED if point.pruned else states.COMPLETE,
        value=score,
        params=params,
        distributions=kinds,
        intermediate_values={0: score} if point.pruned else None,
    )
