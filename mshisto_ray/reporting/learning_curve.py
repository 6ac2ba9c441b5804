"""Learning curve and permuted choice in words, as a table, as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.learning.retraining.learning_curve import LearningCurve
from mshisto_ray.learning.retraining.permuted import PermutedChoice
from mshisto_ray.reporting.decisions import markdown_table


def curve_table(curve: LearningCurve) -> list[list[str]]:
    """Header, then a row for each number of patients."""
    rows = [["patients to learn from", f"test_{curve.metric}", "95 % interval"]]
    for number, value in zip(curve.patients, curve.values, strict=True):
        ends = f"{value.low:.3f} to {value.high:.3f}"
        rows.append([f"{number:.1f}".removesuffix(".0"), f"{value.value:.3f}", ends])
    return rows


def about_curve(curve: LearningCurve) -> str:
    """Would more patients help? The last step, and how the curve may continue."""
    before, now = (f"{number:.0f}" for number in curve.patients[-2:])
    last, gain = curve.last, curve.gain
    if last.low > 0:
        answer = "More patients helped up to here."
    elif last.high < 0:
        answer = "The last patients made it worse, beyond chance in who is tested."
    else:
        answer = "Whether more patients still help cannot be told from these."
    return (
        f"{answer} From {before} to {now} patients to learn from, test_{curve.metric} "
        f"improved by {last.value:+.3f} ({last.low:+.3f} to {last.high:+.3f}, on the "
        f"same test patients). On a power law through the curve, {curve.more} more "
        f"would add {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}); a curve "
        "that falls counts as flat. Patients are those of a fold, its validation "
        "patients included, the mean over folds. Intervals cover which patients were "
        "tested, not which were learned from: each size was drawn once in a fold."
    )


def about_permuted(found: PermutedChoice) -> str:
    """How often labels that mean nothing have done as well, and the p of that."""
    values = sorted(found.permuted)
    middle = values[len(values) // 2]
    return (
        f"Labels exchanged between patients {len(values)} times, all configs trained "
        f"and one chosen anew in the same way: test_{found.metric} of the chosen one "
        f"was {values[0]:.3f} to {values[-1]:.3f}, median {middle:.3f}, and "
        f"{found.observed:.3f} with the true labels: p = {found.p:.3f} (the least "
        f"possible: {1 / (len(values) + 1):.3f}). The hypothesis that it "
        f"tests: {found.null}."
    )


def rerun_sections(curve: LearningCurve | None, found: PermutedChoice | None) -> str:
    """Both as Markdown; nothing of what was not trained."""
    lines = []
    if curve:
        lines += ["", "## Learning curve", "", about_curve(curve), ""]
        lines += markdown_table(curve_table(curve))
    if found:
        lines += ["", "## Permuted labels", "", about_permuted(found)]
    return "\n".join(lines) + "\n" if lines else ""


def plot_curve(path: Path, curve: LearningCurve) -> None:
    """Draw the metric against the number of patients (PNG)."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    values = curve.values
    below = [value.value - value.low for value in values]
    above = [value.high - value.value for value in values]
    axes.errorbar(
        curve.patients, [value.value for value in values], [below, above],
        marker="o", markersize=4, elinewidth=0.8,
    )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_xlabel("patients to learn from")
    axes.set_ylabel(f"test_{curve.metric}, 95 % intervals")
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=110)
