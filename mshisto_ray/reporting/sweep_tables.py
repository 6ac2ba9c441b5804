"""Tables of a sweep: ranking, other metrics, differences from the chosen config."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence

from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.learning.fold_means import RANKED, fold_mean
from mshisto_ray.learning.sweep.points import show
from mshisto_ray.learning.sweep.results import PointResult

_LEVEL = 0.05
# Configs of a kind that a line names.
_MOST_NAMED = 10
_COLUMNS = (
    "config", "label", "metric", "value", "chosen", "difference", "low", "high", "p",
    "p_holm", "p_folds",
)  # fmt: skip
_DIFFERENCES = (
    "Difference: test {metric} less that of the chosen config on the same patients. "
    "p: of no difference, after Holm's correction for {num} comparisons. Both take the "
    "trained models as they are. p over folds, below: the corrected resampled t test "
    "of Nadeau and Bengio (2003), which includes what training varies by; it is not "
    "corrected for the number of configs."
)


def ranking_table(
    ranked: Sequence[PointResult],
    select: str | None,
    compared: Mapping[str, Comparison],
) -> list[list[str]]:
    """What the configs differ in, the metric that chooses, the difference.

    The first row is the header. Arguments as of ``sweep_summary.summary``.
    """
    axes = axes_of(ranked)
    columns = [f"val_{select}", f"test_{select}"] if select else []
    columns += [f"test_{o.target.chooses}" for o in ranked[:1] if not select]
    more = ["difference", "p"] if compared else []
    rows = [["", *axes, *columns, *more, "config"]]
    for place, outcome in enumerate(ranked, start=1):
        values = outcome.point.values
        cells = [show(values[axis]) if axis in values else "" for axis in axes]
        cells += [_cell(outcome, column) for column in columns]
        found = compared.get(outcome.digest)
        if more:
            cells += [_difference(found), _p(found.p_holm)] if found else ["", ""]
        mark = f"{place}, chosen" if select and place == 1 else str(place)
        rows.append([mark, *cells, outcome.digest])
    return rows


def axes_of(ranked: Sequence[PointResult]) -> list[str]:
    """The axes that any of the configs has."""
    return list(dict.fromkeys(key for o in ranked for key in o.point.values))


def groups(
    ranked: Sequence[PointResult],
    select: str | None,
    compared: Mapping[str, Comparison],
) -> list[str]:
    """Lines on which configs differ from the chosen one beyond chance, by their places.

    Up to ten of a kind are named; of more the places alone are given.

    Arguments as of ``sweep_summary.summary``.
    """
    if not compared:
        return []
    named: dict[str, list[int]] = {
        "Cannot be told apart from the chosen": [],
        "Worse than the chosen": [],
        "Better than the chosen on test, which does not choose": [],
    }
    alike, worse, better = named.values()
    for place, outcome in enumerate(ranked[1:], start=2):
        found = compared[outcome.digest]
        apart = worse if found.worse else better
        (apart if told_apart(found) else alike).append(place)
    labels = [outcome.point.label for outcome in ranked]
    lines = [
        f"{name}: {_members(places, labels)}."
        for name, places in named.items()
        if places
    ]
    return [*lines, _DIFFERENCES.format(metric=select, num=len(compared))]


def _members(places: Sequence[int], labels: Sequence[str]) -> str:
    """Places, from 1, in rising order, with their labels if there are few."""
    if len(places) <= _MOST_NAMED:
        return "; ".join(f"{place} ({labels[place - 1]})" for place in places)
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    texts = [f"{a} to {b}" if a < b else str(a) for a, b in runs]
    return f"{len(places)} configs, at places {', '.join(texts)}"


def other_metrics_table(
    ranked: Sequence[PointResult],
    select: str | None,
    compared: Mapping[str, Comparison],
) -> list[list[str]]:
    """The metrics that do not choose; the first row is the header.

    Arguments as of ``sweep_summary.summary``.
    """
    targets = [outcome.target for outcome in ranked[:1]]
    columns = [
        f"test_{name}"
        for target in targets
        for name in target.shown
        if name != (select or target.chooses)
    ]
    within = [n for n in RANKED if any(_within(o, n) for o in ranked)]
    more = [f"test_{name}, mean over folds" for name in within]
    more += ["p over folds"] if compared else []
    rows = [["", *columns, *more, "config"]]
    for place, outcome in enumerate(ranked, start=1):
        cells = [_cell(outcome, column) for column in columns]
        cells += [_within(outcome, name) for name in within]
        if compared:
            found = compared.get(outcome.digest)
            cells.append(_p(found.p_folds) if found else "")
        rows.append([str(place), *cells, outcome.digest])
    return rows


def told_apart(comparison: Comparison) -> bool:
    """Whether a config differs from the chosen one after Holm's correction."""
    return comparison.p_holm < _LEVEL


def comparison_table(
    ranked: Sequence[PointResult], compared: Mapping[str, Comparison]
) -> str:
    """CSV, a row per config but the chosen one; a number that is not defined is empty.

    Columns: ``config, label, metric, value, chosen, difference, low, high, p, p_holm,
    p_folds``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for outcome in ranked[1:]:
        c = compared[outcome.digest]
        gap = c.difference
        numbers = (c.first, c.second, gap.value, gap.low, gap.high, c.p, c.p_holm)
        cells = ["" if math.isnan(v) else repr(v) for v in (*numbers, c.p_folds)]
        writer.writerow([outcome.digest, outcome.point.label, c.metric, *cells])
    return text.getvalue()


def _cell(outcome: PointResult, name: str) -> str:
    assert outcome.metrics
    found = outcome.metrics
    if f"{name}_mean" not in found:
        return ""
    value, low, high = (found[f"{name}_{e}"] for e in ("mean", "ci_low", "ci_high"))
    if math.isnan(value):
        return "not defined"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _within(outcome: PointResult, name: str) -> str:
    """The mean over folds; empty where it is not known."""
    value = fold_mean(outcome.metrics or {}, name)
    return "" if value is None else f"{value:.3f}"


def _difference(found: Comparison) -> str:
    gap = found.difference
    return f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "< .001" if value < 0.001 else f"{value:.3f}"
