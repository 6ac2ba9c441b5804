"""The configs of a sweep as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.learning.sweep.results import PointResult
from mshisto_ray.reporting.sweep_tables import (
    told_apart,
)

_MAX_BARS = 60


def plot(
    path: Path,
    ranked: Sequence[PointResult],
    chosen: bool,
    compared: Mapping[str, Comparison],
) -> None:
    """The test metric with its interval per config, best on validation on top (PNG).

    Red: the chosen one; grey: differs from it beyond chance. Beyond 60 configs only the
    first 60 are drawn.
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
    apart = "; grey: differs from the chosen beyond chance" if compared else ""
    axes.set_xlabel(f"test {title}, 95 % interval over patients{apart}")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def _shorten(label: str) -> str:
    return label if len(label) <= 70 else label[:67] + "..."
