"""A sweep as a table and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.mil.sweep import PointResult, show

_COLUMNS = ("val_{select}", "test_auroc", "test_pr_auc", "test_accuracy", "test_f1")
_MAX_BARS = 60


def summary(
    ranked: Sequence[PointResult], failed: Sequence[PointResult], select: str | None
) -> str:
    """Markdown: configs from best to worst on validation, with 95 % intervals.

    Args:
        ranked: finished configs, of ``mil.sweep.rank``.
        failed: configs without a result.
        select: metric that the first one was chosen by; None: none was chosen.
    """
    columns = [name.format(select=select) for name in _COLUMNS]
    if select is None:
        columns = columns[1:]
    axes = list(ranked[0].point.values) if ranked else []
    lines = [
        "# Sweep",
        "",
        f"{len(ranked)} configs, "
        + (
            f"ranked and chosen by val_{select}, without test results. "
            if select
            else "in the order of the axes; none was chosen. "
        )
        + "Values are means over repeats of out-of-fold predictions, with 95 % "
        "patient-bootstrap intervals.",
        "",
        _row(["", *axes, *columns, "config"]),
        _row(["---"] * (len(axes) + len(columns) + 2)),
    ]
    for place, outcome in enumerate(ranked, start=1):
        chosen = select is not None and place == 1
        cells = [show(outcome.point.values[axis]) for axis in axes]
        cells += [_cell(outcome, column) for column in columns]
        mark = f"**{place}, chosen**" if chosen else str(place)
        lines.append(_row([mark, *cells, outcome.digest]))
    doubtful = [o for o in ranked if o.warnings]
    if doubtful:
        lines += ["", "Warnings; the values of these configs say little:", ""]
        lines += [
            f"- {o.point.label} ({o.digest}): {line}"
            for o in doubtful
            for line in o.warnings
        ]
    if failed:
        lines += ["", f"{len(failed)} configs have no result:", ""]
        lines += [f"- {o.point.label} ({o.digest}): {_first(o.error)}" for o in failed]
    return "\n".join(lines) + "\n"


def plot(path: Path, ranked: Sequence[PointResult], chosen: bool) -> None:
    """Test AUROC with its interval per config, best on validation on top (PNG).

    Beyond 60 configs only the first 60 are drawn.
    """
    shown = ranked[:_MAX_BARS]
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, outcome in enumerate(shown):
        assert outcome.metrics
        value, low, high = (
            outcome.metrics[f"test_auroc_{end}"]
            for end in ("mean", "ci_low", "ci_high")
        )
        colour = "tab:red" if chosen and place == 0 else "tab:blue"
        axes.plot([low, high], [place, place], color=colour)
        axes.plot([value], [place], "o", color=colour)
    labels = [_shorten(o.point.label) for o in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("test AUROC, 95 % patient-bootstrap interval")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def _cell(outcome: PointResult, name: str) -> str:
    assert outcome.metrics
    found = outcome.metrics
    if f"{name}_mean" not in found:
        return ""
    value, low, high = (found[f"{name}_{e}"] for e in ("mean", "ci_low", "ci_high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _first(error: str | None) -> str:
    return (error or "no result").strip().splitlines()[-1]


def _shorten(label: str) -> str:
    return label if len(label) <= 70 else label[:67] + "..."
