"""A sweep as text: order, choice, tables, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.learning.retraining.refits import RefitInterval, about_refits
from mshisto_ray.learning.sweep.nested_choice import NestedChoice
from mshisto_ray.learning.sweep.pruning import about_pruned
from mshisto_ray.learning.sweep.results import PointResult
from mshisto_ray.reporting.decisions import markdown_table
from mshisto_ray.reporting.sweep_tables import (
    groups,
    other_metrics_table,
    ranking_table,
)

DOUBTFUL = "Warnings; the values of these configs say little:"
POOLED = "Pooled over folds and within them; these configs differ in the two:"


def summary(
    ranked: Sequence[PointResult],
    failed: Sequence[PointResult],
    select: str | None,
    compared: Mapping[str, Comparison],
    nested: NestedChoice | None = None,
    refits: RefitInterval | None = None,
    others: Sequence[tuple[str, Sequence[str]]] | None = None,
) -> str:
    """Markdown: configs from best to worst on validation, with 95 % intervals.

    Args:
        ranked: finished configs, of ``learning.sweep.results.rank``.
        failed: configs without a result.
        select: metric that the first one was chosen by; None: none was chosen.
        compared: with the chosen one, by digest, of
            ``learning.sweep.results.compare_with_first``.
        nested: of ``learning.sweep.results.choose_nested``.
        refits: of ``learning.retraining.refits``.
        others: of ``unfinished``; None: the failed alone.
    """
    ranking, *rows = ranking_table(ranked, select, compared)
    if select and rows:
        rows[0][0] = f"**{rows[0][0]}**"
    lines = [
        "# Sweep",
        "",
        about(ranked, select),
        "",
        *markdown_table([ranking, *rows]),
    ]
    for line in groups(ranked, select, compared):
        lines += ["", line]
    if nested:
        lines += ["", about_nested(nested, str(select))]
    if refits:
        lines += ["", about_refits(refits, str(select))]
    lines += ["", *markdown_table(other_metrics_table(ranked, select, compared))]
    pooled = pooling(ranked)
    if pooled:
        lines += ["", POOLED, "", *(f"- {line}" for line in pooled)]
    doubtful = doubts(ranked)
    if doubtful:
        lines += ["", DOUBTFUL, "", *(f"- {line}" for line in doubtful)]
    for heading, rows in unfinished(failed) if others is None else others:
        lines += ["", f"{heading}:" if rows else f"{heading}."]
        lines += ["", *(f"- {row}" for row in rows)] if rows else []
    return "\n".join(lines) + "\n"


def about(ranked: Sequence[PointResult], select: str | None) -> str:
    """A sentence on the order of the configs, and one on what their values are."""
    order = (
        f"{len(ranked)} configs, ranked and chosen by val_{select}, without test "
        "results. "
        if select
        else f"{len(ranked)} configs, in the order of the axes; none was chosen. "
    )
    if select and len(ranked) == 1:  # which may do without validation
        order = "The only config. "
    method = f", with {ranked[0].target.interval_method}" if ranked else ""
    return f"{order}Values are means over repeats of out-of-fold predictions{method}."


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
    return [f"{_named(o)}: {line}" for o in ranked for line in o.warnings]


def pooling(ranked: Sequence[PointResult]) -> list[str]:
    """A line for each config and metric that differs pooled and within folds."""
    return [f"{_named(o)}: {line}" for o in ranked for line in o.pooling_notes]


def unfinished(
    failed: Sequence[PointResult],
    pruned: Sequence[PointResult] = (),
    not_run: Sequence[PointResult] = (),
    not_suggested: int = 0,
) -> list[tuple[str, list[str]]]:
    """Headings and lines on configs that have no result, and on why they have none.

    Args:
        failed: with the last line of their error.
        pruned: with what they had on validation.
        not_run: known, and not begun when the budget was used up.
        not_suggested: points that a search was still to suggest.
    """
    found = []
    if failed:
        lines = [f"{_named(o)}: {_first(o.error)}" for o in failed]
        found.append((f"{len(failed)} configs have no result", lines))
    if pruned:
        lines = [
            f"{_named(o)}: {o.pruned.in_words(o.target.titles[o.pruned.metric])}"
            for o in pruned
            if o.pruned
        ]
        found.append((about_pruned(len(lines)), lines))
    if not_run or not_suggested:
        rest = f", {not_suggested} of them not yet suggested" if not_suggested else ""
        num = len(not_run) + not_suggested
        heading = f"{num} configs were not run{rest}; the same command resumes"
        found.append((heading, [_named(o) for o in not_run]))
    return found


def _named(outcome: PointResult) -> str:
    return f"{outcome.point.label} ({outcome.digest})"


def _first(error: str | None) -> str:
    return (error or "no result").strip().splitlines()[-1]
