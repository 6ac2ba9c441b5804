"""Encoders with their intervals, in groups that cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.tile_classification.ranking import Ranked

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown")


def draw_ranking(ranked: Sequence[Ranked], metric: str) -> Figure:
    """A line an encoder, the best on top; a colour and a label a group."""
    figure = Figure(figsize=(8, 1.1 + 0.32 * len(ranked)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    groups = set()
    for place, row in enumerate(ranked):
        colour = _COLOURS[(row.group - 1) % len(_COLOURS)]
        label = None if row.group in groups else f"group {row.group}"
        groups.add(row.group)
        ends = [row.score.low, row.score.high]
        axes.plot(ends, [place, place], color=colour)
        axes.plot([row.score.value], [place], "o", color=colour, label=label)
    axes.set_yticks(range(len(ranked)), [row.name for row in ranked], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric.replace('_', ' ')}, 95 % interval over patients")
    axes.grid(axis="x", alpha=0.3)
    # Beside the axes: intervals may lie anywhere within them.
    title = "cannot be told apart"
    place = "outside right upper"
    figure.legend(fontsize=8, title=title, title_fontsize=8, loc=place)
    return figure
