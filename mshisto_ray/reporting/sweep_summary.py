"""A sweep as a table and a figure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.mil.nested_choice import NestedChoice
from mshisto_ray.mil.sweep import show
from mshisto_ray.mil.sweep_results import PointResult

DOUBTFUL = "Warnings; the values of these configs say little:"
_MAX_BARS = 60
_LEVEL = 0.05
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


def summary(
    ranked: Sequence[PointResult],
    failed: Sequence[PointResult],
    select: str | None,
    compared: Mapping[str, Comparison],
    nested: NestedChoice | None = None,
) -> str:
    """Markdown: configs from best to worst on validation, with 95 % intervals.

    Args:
        ranked: finished configs, of ``mil.sweep_results.rank``.
        failed: configs without a result.
        select: metric that the first one was chosen by; None: none was chosen.
        compared: with the chosen one, of ``mil.sweep_results.compare_with_first``, by
            digest.
        nested: of ``mil.sweep_results.choose_nested``.
    """
    ranking, *rows = ranking_table(ranked, select, compared)
    if select and rows:
        rows[0][0] = f"**{rows[0][0]}**"
    lines = ["# Sweep", "", about(ranked, select), "", *_markdown([ranking, *rows])]
    for line in groups(ranked, select, compared):
        lines += ["", line]
    if nested:
        lines += ["", about_nested(nested, str(select))]
    lines += ["", *_markdown(other_metrics_table(ranked, select, compared))]
    doubtful = doubts(ranked)
    if doubtful:
        lines += ["", DOUBTFUL, "", *(f"- {line}" for line in doubtful)]
    if failed:
        lines += ["", f"{len(failed)} configs have no result:", ""]
        lines += [f"- {line}" for line in without_result(failed)]
    return "\n".join(lines) + "\n"


def about(ranked: Sequence[PointResult], select: str | None) -> str:
    """A sentence on the order of the configs, and one on what their values are."""
    order = (
        f"ranked and chosen by val_{select}, without test results. "
        if select
        else "in the order of the axes; none was chosen. "
    )
    method = f", with {ranked[0].target.interval_method}" if ranked else ""
    return (
        f"{len(ranked)} configs, {order}Values are means over repeats of out-of-fold "
        f"predictions{method}."
    )


def about_nested(nested: NestedChoice, select: str) -> str:
    """What the choice is worth, and why the chosen config's own value is no answer."""
    value = nested.value
    num = "config was" if nested.num_configs == 1 else "configs were"
    return (
        f"Chosen anew within each fold, by the fold's own validation patients "
        f"({nested.num_configs} {num} chosen): test_{select} {value.value:.3f} "
        f"({value.low:.3f} to {value.high:.3f}). This is the estimate for new "
        "patients of training and choosing as this sweep does. The chosen config's own "
        "test value is higher by luck, the more configs there are: test patients of "
        "one fold are validation patients of another, so that the one choice over all "
        "folds has seen them."
    )


def doubts(ranked: Sequence[PointResult]) -> list[str]:
    """A line for each warning of a config."""
    return [
        f"{o.point.label} ({o.digest}): {line}" for o in ranked for line in o.warnings
    ]


def without_result(failed: Sequence[PointResult]) -> list[str]:
    """A line for each config without a result: the last one of its error."""
    return [f"{o.point.label} ({o.digest}): {_first(o.error)}" for o in failed]


def ranking_table(
    ranked: Sequence[PointResult],
    select: str | None,
    compared: Mapping[str, Comparison],
) -> list[list[str]]:
    """What the configs differ in, the metric that chooses, the difference.

    The first row is the header. Arguments as of ``summary``.
    """
    axes = list(ranked[0].point.values) if ranked else []
    columns = [f"val_{select}", f"test_{select}"] if select else []
    columns += [f"test_{o.target.chooses}" for o in ranked[:1] if not select]
    more = ["difference", "p"] if compared else []
    rows = [["", *axes, *columns, *more, "config"]]
    for place, outcome in enumerate(ranked, start=1):
        cells = [show(outcome.point.values[axis]) for axis in axes]
        cells += [_cell(outcome, column) for column in columns]
        found = compared.get(outcome.digest)
        if more:
            cells += [_difference(found), _p(found.p_holm)] if found else ["", ""]
        mark = f"{place}, chosen" if select and place == 1 else str(place)
        rows.append([mark, *cells, outcome.digest])
    return rows


def groups(
    ranked: Sequence[PointResult],
    select: str | None,
    compared: Mapping[str, Comparison],
) -> list[str]:
    """Lines on which configs can be told apart from the chosen one, by their places.

    Arguments as of ``summary``.
    """
    if not compared:
        return []
    named: dict[str, list[str]] = {
        "Cannot be told apart from the chosen": [],
        "Worse than the chosen": [],
        "Better than the chosen on test, which does not choose": [],
    }
    alike, worse, better = named.values()
    for place, outcome in enumerate(ranked[1:], start=2):
        found = compared[outcome.digest]
        apart = worse if found.worse else better
        text = f"{place} ({outcome.point.label})"
        (apart if told_apart(found) else alike).append(text)
    lines = [
        f"{name}: {'; '.join(members)}." for name, members in named.items() if members
    ]
    return [*lines, _DIFFERENCES.format(metric=select, num=len(compared))]


def other_metrics_table(
    ranked: Sequence[PointResult],
    select: str | None,
    compared: Mapping[str, Comparison],
) -> list[list[str]]:
    """The metrics that do not choose; the first row is the header.

    Arguments as of ``summary``.
    """
    targets = [outcome.target for outcome in ranked[:1]]
    columns = [
        f"test_{name}"
        for target in targets
        for name in target.shown
        if name != (select or target.chooses)
    ]
    more = ["p over folds"] if compared else []
    rows = [["", *columns, *more, "config"]]
    for place, outcome in enumerate(ranked, start=1):
        cells = [_cell(outcome, column) for column in columns]
        if more:
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


def plot(
    path: Path,
    ranked: Sequence[PointResult],
    chosen: bool,
    compared: Mapping[str, Comparison],
) -> None:
    """The test metric with its interval per config, best on validation on top (PNG).

    Red: the chosen one; grey: told apart from it. Beyond 60 configs only the first 60
    are drawn.
    """
    shown = ranked[:_MAX_BARS]
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    metric = shown[0].target.chooses
    title = shown[0].target.titles[metric]
    for place, outcome in enumerate(shown):
        assert outcome.metrics
        value, low, high = (
            outcome.metrics[f"test_{metric}_{end}"]
            for end in ("mean", "ci_low", "ci_high")
        )
        found = compared.get(outcome.digest)
        colour = "tab:grey" if found and told_apart(found) else "tab:blue"
        colour = "tab:red" if chosen and place == 0 else colour
        axes.plot([low, high], [place, place], color=colour)
        axes.plot([value], [place], "o", color=colour)
    labels = [_shorten(o.point.label) for o in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.invert_yaxis()
    apart = "; grey: told apart from the chosen" if compared else ""
    axes.set_xlabel(f"test {title}, 95 % interval over patients{apart}")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def _cell(outcome: PointResult, name: str) -> str:
    assert outcome.metrics
    found = outcome.metrics
    if f"{name}_mean" not in found:
        return ""
    value, low, high = (found[f"{name}_{e}"] for e in ("mean", "ci_low", "ci_high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _difference(found: Comparison) -> str:
    gap = found.difference
    return f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "< .001" if value < 0.001 else f"{value:.3f}"


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    header, *rest = rows
    return [_row(header), _row(["---"] * len(header)), *(_row(row) for row in rest)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _first(error: str | None) -> str:
    return (error or "no result").strip().splitlines()[-1]


def _shorten(label: str) -> str:
    return label if len(label) <= 70 else label[:67] + "..."
