"""Models of the same patients from best to worst, and which cannot be told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.comparison import by_fold, compare_pairs
from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.metrics import METRICS
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.risks import FOLDS, POOLED, RiskEstimates, Risks
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.statistics.letters import letters
from mshisto_ray.statistics.paired import corrected_resampled_t, holm, p_value

LEVEL = 0.05
_SHOWN = 3
Values = Mapping[str, Mapping[str, Interval]]
Pair = tuple[Interval, float]  # first less second, and p over folds


@dataclass(frozen=True)
class Place:
    """A model in a ranking.

    ``values``: by metric, the ranking one first; the ends of one without an interval
    are NaN. ``difference``: its value less the reference's; None of the reference.
    ``p``: of no difference; ``p_holm``: after Holm's correction for all differences
    from the reference; ``p_folds``: of the corrected resampled t test over folds.
    ``letters``: models that share one cannot be told apart, after Holm's correction for
    all pairs.
    """

    model: str
    values: Mapping[str, Interval]
    difference: Interval | None
    p: float
    p_holm: float
    p_folds: float
    letters: str


@dataclass(frozen=True)
class Ranking:
    """Models of one group of patients, best first.

    ``size``: patients and events, or classes, as text.
    """

    group: str
    metric: str
    reference: str
    size: str
    places: tuple[Place, ...]


def rank_risks(
    group: str,
    models: Mapping[str, RiskEstimates],
    size: str,
    metric: str,
    over: str,
    reference: str | None,
) -> Ranking:
    """Rank models of survival.

    Args:
        group: of patients.
        models: estimates by name, of the same patients (``check_same_patients``).
        size: of the group, as text.
        metric: of ``RiskEstimates.names``.
        over: ``folds`` or ``pooled``.
        reference: the model that others are compared with; None: the best.
    """
    other = POOLED if over == FOLDS else FOLDS
    names = next(iter(models.values())).names
    first = [(metric, over), (metric, other)]
    rest = [(n, over) for n in names if n != metric]
    values = {
        model: {f"{n}_{o}": e.interval(n, o) for n, o in (*first, *rest)}
        for model, e in models.items()
    }

    def pair(one: str, two: str) -> Pair:
        gap = models[one].difference(models[two], metric, over)
        return gap, _p_folds(*(models[m].by_fold(metric) for m in (one, two)))

    return _rank(group, f"{metric}_{over}", size, values, pair, reference)


def rank_classes(
    group: str,
    models: Mapping[str, Predictions],
    size: str,
    metric: str,
    reference: str | None,
) -> Ranking:
    """Rank models of classes by a metric of ``METRICS`` over all folds pooled.

    Arguments as in ``rank_risks``.

    Raises:
        InputError: models of other bags, patients, targets or classes.
    """
    unranked = {}
    for model, predictions in models.items():
        found = intervals(predictions)
        over_folds = float(np.mean([*by_fold(predictions, metric).values()]))
        unranked[model] = {
            f"{metric}_{POOLED}": found[metric],
            f"{metric}_{FOLDS}": Interval(over_folds, np.nan, np.nan),
            **{f"{n}_{POOLED}": found[n] for n in METRICS if n != metric},
        }
    values = _best_first(unranked, f"{metric}_{POOLED}")
    compared = compare_pairs({name: models[name] for name in values}, metric)

    def pair(one: str, two: str) -> Pair:
        found = compared[one, two]
        return found.difference, found.p_folds

    return _rank(group, f"{metric}_{POOLED}", size, values, pair, reference)


def check_same_patients(group: str, models: Mapping[str, Risks]) -> None:
    """Refuse models of a group that are not of the same patients and outcomes.

    Raises:
        InputError: names two models and some patients.
    """
    outcomes = {name: _outcomes(risks) for name, risks in models.items()}
    (first, known), *others = outcomes.items()
    for name, found in others:
        odd = sorted({key[0] for key in known ^ found})
        if odd:
            raise InputError(
                f"predictions: models {first!r} and {name!r} of {group} are not of the "
                f"same patients: {len(odd)} differ in patient, time or event "
                f"({', '.join(odd[:_SHOWN])})"
            )


def _outcomes(risks: Risks) -> set[tuple[str, float, bool]]:
    columns = risks.patient, risks.time, risks.event
    return set(zip(*(column.tolist() for column in columns), strict=True))


def _rank(
    group: str,
    metric: str,
    size: str,
    values: Values,
    pair: Callable[[str, str], Pair],
    reference: str | None,
) -> Ranking:
    order = list(_best_first(values, metric))
    if reference is not None and reference not in order:
        raise InputError(
            f"reference: no model {reference!r} in {group}; have {', '.join(order)}"
        )
    chosen = reference or order[0]
    found = {key: pair(*key) for key in combinations(order, 2)}
    from_chosen = [_turned(found, name, chosen) for name in order if name != chosen]
    p = [p_value(gap) for gap, _ in from_chosen]
    rows = zip(from_chosen, p, holm(np.array(p)).tolist() if p else [], strict=True)
    marks = letters(_differ(order, found))
    places = []
    for name, mark in zip(order, marks, strict=True):
        if name == chosen:
            row = (None, np.nan, np.nan, np.nan)
        else:
            (gap, p_folds), single, adjusted = next(rows)
            row = (gap, single, adjusted, p_folds)
        places.append(Place(name, values[name], *row, mark))
    return Ranking(group, metric, chosen, size, tuple(places))


def _turned(found: Mapping[tuple[str, str], Pair], one: str, two: str) -> Pair:
    if (one, two) in found:
        return found[one, two]
    gap, p_folds = found[two, one]
    return Interval(-gap.value, -gap.high, -gap.low), p_folds


def _differ(order: Sequence[str], found: Mapping[tuple[str, str], Pair]) -> np.ndarray:
    """Whether two models differ after Holm's correction for all pairs, [M, M]."""
    different = np.zeros((len(order), len(order)), bool)
    if found:
        adjusted = holm(np.array([p_value(gap) for gap, _ in found.values()]))
        for (one, two), p in zip(found, adjusted, strict=True):
            at = order.index(one), order.index(two)
            different[at] = different[at[::-1]] = p < LEVEL
    return different


def _p_folds(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    if one.keys() != two.keys() or len(one) < 2:
        return float("nan")
    gaps = np.array([one[fold] - two[fold] for fold in one])
    return corrected_resampled_t(gaps, 1 / (len(one) - 1))


def _best_first(values: Values, metric: str) -> Values:
    """The models by their value, those without one last."""

    def place(model: str) -> float:
        value = values[model][metric].value
        return np.inf if np.isnan(value) else -value

    return {model: values[model] for model in sorted(values, key=place)}
