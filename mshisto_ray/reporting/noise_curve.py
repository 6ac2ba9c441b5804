"""A metric against the level of feature noise, a line per kind of noise or model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.learning.sweep.names import shorten
from mshisto_ray.learning.sweep.results import PointResult

_SIGMA = "sigma"
_MAX_LABELS = 8
# Letters of the names of lines that fit side by side below the panels.
_LETTERS = 110
_SYMBOL = 10  # letters that a line's symbol takes
_TITLES = {
    "val": "validation patients, which choose the model",
    "test": "test patients, which choose nothing",
}
# Axes that have lines of their own.
_LINES = ("noise", "pooling", "views", "embeddings", "reduction", "hidden")


def plot_noise(
    path: Path, ranked: Sequence[PointResult], metric: str, title: str
) -> bool:
    """Draw it (PNG) where the configs have several levels; return whether they have.

    A line for each value of the axes ``noise``, ``pooling``, ``views``, ``reduction``
    and ``hidden``. Of several configs of the same line and level the one that ranks
    highest on validation is drawn. Bars: the 95 % interval of the test metric.

    Args:
        path: to write.
        ranked: of ``learning.sweep.results.rank``.
        metric: of the target.
        title: the metric in words.
    """
    found: dict[str, dict[float, PointResult]] = {}
    for outcome in ranked:
        given = outcome.point.config.model_dump(mode="json", include=set(_LINES))
        sigma = given["noise"].get(_SIGMA)
        if isinstance(sigma, int | float):
            line = found.setdefault(_line(outcome, given), {})
            line.setdefault(float(sigma), outcome)
    levels = sorted({sigma for line in found.values() for sigma in line})
    if len(levels) < 2:
        return False
    longest = max(map(len, found)) + _SYMBOL
    columns = max(1, min(len(found), _LETTERS // longest))
    height = 4 + 0.2 * -(-len(found) // columns)
    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for part, axes in zip(("val", "test"), panels, strict=True):
        for number, (name, line) in enumerate(sorted(found.items())):
            # Levels are shifted a little, so that intervals do not hide each other.
            shift = 0.03 * (number - (len(found) - 1) / 2)
            sigmas = sorted(line)
            places = [levels.index(sigma) + shift for sigma in sigmas]
            values = [_ends(line[sigma], f"{part}_{metric}") for sigma in sigmas]
            axes.errorbar(
                places,
                [v for v, _, _ in values],
                [[v - a for v, a, _ in values], [b - v for v, _, b in values]],
                marker="o", markersize=4, elinewidth=0.8, label=name,
            )  # fmt: skip
        # More labels side by side would overlap.
        ticks = range(0, len(levels), -(-len(levels) // _MAX_LABELS))
        axes.set_xticks(ticks, [f"{levels[tick]:g}" for tick in ticks])
        axes.set_xlabel("noise.sigma, in standard deviations of a feature")
        axes.set_title(_TITLES[part], fontsize=10)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel(f"{title}, with 95 % intervals")
    # Below the panels: intervals may lie anywhere within them.
    lines, names = panels[0].get_legend_handles_labels()
    place = "outside lower center"
    figure.legend(lines, names, fontsize=8, loc=place, ncols=columns)
    figure.savefig(path, dpi=110)
    return True


def _line(outcome: PointResult, given: Mapping[str, Any]) -> str:
    """Which line a config belongs to, in the words of the axes."""
    words = [given["noise"]["name"]] if "noise" in outcome.point.values else []
    for axis in _LINES[1:]:
        if axis in outcome.point.values:
            value = outcome.point.values[axis]
            words.append(_layers(value) if axis == "hidden" else shorten(value))
    return ", ".join(words) or given.get("pooling", given["noise"])["name"]


def _layers(widths: Sequence[int]) -> str:
    """Hidden layers in words."""
    if not widths:
        return "no hidden layer"
    return f"hidden {', '.join(map(str, widths))}"


def _ends(outcome: PointResult, name: str) -> tuple[float, float, float]:
    assert outcome.metrics
    ends = ("mean", "ci_low", "ci_high")
    value, low, high = (outcome.metrics.get(f"{name}_{e}", float("nan")) for e in ends)
    return value, low, high
