"""Decisions of a head in words, a table and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.decision.config import DecisionConfig, ThresholdConfig
from mshisto_ray.decision.examination import CURVE, Examination
from mshisto_ray.statistics.bootstrap import Interval

WITHIN_FOLDS = (
    "Out of fold: each fold's test patients are decided on by a calibration, threshold "
    "and sets of that fold's own validation patients. The head keeps ones of the "
    "validation patients of all folds, which are more."
)
_RAW, _DONE = "tab:grey", "tab:blue"


def decision_table(found: Examination, config: DecisionConfig) -> list[list[str]]:
    """What decisions are worth, a row a number; the first row is the header."""
    rows = [["", "value (95 % interval)"]]
    after = f"after {config.calibration}"
    for name, title in (("brier", "Brier score"), ("ece", "ECE, ten bins")):
        rows.append([f"{title}, probabilities as they are", _show(found.errors[name])])
        done = found.errors.get(f"{name}_calibrated")
        if done:
            rows.append(
                [f"{title}, {after}", _show(found.errors[f"{name}_calibrated"])]
            )
    at = f"at the threshold ({threshold_in_words(config.threshold)})"
    for name, share in found.shares.items():
        if name in ("sensitivity", "specificity"):
            rows.append([f"{name} {at}", _show(share)])
        elif name == "accuracy":
            rows.append(["accuracy", _show(share)])
        else:
            rows.append([_of_sets(name, config), _show(share)])
    return rows


def verdicts(found: Examination, config: DecisionConfig) -> list[str]:
    """Whether what was fitted in training holds on these bags, a line each.

    By the 95 % intervals: not to contradict is no proof where bags are few.
    """
    lines = []
    if len(found.raw.classes) == 2:
        lines.append(_in_the_large(found))
    policy = config.threshold
    if policy.policy in ("sensitivity", "specificity") and policy.value is not None:
        share = found.shares[policy.policy]
        lines.append(
            f"Threshold: a {policy.policy} of {policy.value:g} was wanted, and is "
            f"{_show(share)} here: {_least(share, policy.value)}."
        )
    if config.coverage is not None:
        share = found.shares["covered"]
        lines.append(
            f"Sets: {config.coverage:.0%} were promised to hold the true class, and "
            f"{_show(share)} do: {_least(share, config.coverage)}."
        )
    return lines


def _in_the_large(found: Examination) -> str:
    """Calibration in the large (Steyerberg 2019): mean probability against share."""
    mean, seen = float(found.calibrated[:, 1].mean()), found.observed
    if seen.low <= mean <= seen.high:
        verdict = "these bags do not contradict it"
    else:
        verdict = f"probabilities are too {'low' if mean < seen.low else 'high'}"
    return (
        f"Calibration: {found.raw.classes[1]!r} was given a probability of {mean:.3f} "
        f"on average, and is the class of {_show(seen)}: {verdict}."
    )


def _least(share: Interval, wanted: float) -> str:
    if math.isnan(share.value):
        return "no such bag"
    if share.high < wanted:
        return "it does not hold"
    return "these bags do not contradict it"


def decision_section(
    found: Examination, config: DecisionConfig, about: Sequence[str]
) -> str:
    """Markdown: heading, paragraphs ``about`` what is shown, the table."""
    lines = ["", "## Decisions", ""]
    for line in about:
        lines += [line, ""]
    return "\n".join([*lines, *markdown_table(decision_table(found, config))]) + "\n"


def _of_sets(name: str, config: DecisionConfig) -> str:
    promised = f"promised {config.coverage:.0%}" if config.coverage else ""
    if name == "covered":
        return f"sets that hold the true class ({promised})"
    if name == "decided":
        return "sets of one class, so that it does not abstain"
    if name == "right":
        return "of these, the true class"
    return f"sets that hold it, of {name.removeprefix('covered_')!r}"


def threshold_in_words(config: ThresholdConfig) -> str:
    """``fixed at 0.5``; ``Youden's``; ``for a sensitivity of 0.95``."""
    if config.policy == "fixed":
        return f"fixed at {config.value or 0.5:g}"
    if config.policy == "youden":
        return "Youden's"
    return f"for a {config.policy} of {config.value:g}"


def plot_decisions(found: Examination, figure: Figure) -> str:
    """Draw the reliability diagram and, of two classes, the decision curve.

    Returns:
        What it shows, in a sentence.
    """
    two = len(found.raw.classes) == 2
    left, *right = np.ravel(figure.subplots(1, 2 if two else 1))
    _draw_reliability(left, found)
    text = "Reliability: how often what was given a probability is so"
    if not two:
        return text
    _draw_benefit(right[0], found)
    return (
        f"{text}. Decision curve: net benefit of treating those at or above a "
        f"probability of {found.raw.classes[1]!r}, with 95 % intervals over patients"
    )


def save_decisions(path: Path, found: Examination) -> None:
    """Write ``plot_decisions`` as PNG."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    plot_decisions(found, figure)
    figure.savefig(path, dpi=100)


def _series(found: Examination) -> list[tuple[str, np.ndarray, str]]:
    raw = ("as they are", found.raw.probabilities, _RAW)
    if not found.is_calibrated:
        return [(raw[0], raw[1], _DONE)]
    return [raw, ("calibrated", found.calibrated, _DONE)]


def _draw_reliability(axes: Axes, found: Examination) -> None:
    axes.plot([0, 1], [0, 1], color="0.75", lw=1, ls="--")
    for label, probabilities, colour in _series(found):
        bins = found.reliability(probabilities)
        text = f"{label}: ECE {bins.error:.3f}"
        axes.plot(bins.confidence, bins.share, color=colour, lw=1.2, label=text)
        size = 12 + 160 * bins.number / bins.number.sum()
        axes.scatter(bins.confidence, bins.share, s=size, color=colour, alpha=0.7)
    names = found.raw.classes
    what = f"of {names[1]!r}" if len(names) == 2 else "of the most probable class"
    axes.set_xlabel(f"probability {what}", parse_math=False)
    axes.set_ylabel("share that is so")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title="Reliability")
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(alpha=0.25)


def _draw_benefit(axes: Axes, found: Examination) -> None:
    axes.axhline(0, color="black", lw=0.8, label="treat nobody")
    axes.plot(CURVE, found.treat_all, color="tab:orange", lw=1, label="treat all")
    for label, probabilities, colour in _series(found):
        value, low, high = found.benefit(probabilities)
        axes.plot(CURVE, value, color=colour, lw=1.4, label=f"model, {label}")
        if colour == _DONE:
            axes.fill_between(CURVE, low, high, color=colour, alpha=0.15, lw=0)
    most = float((found.raw.target == 1).mean())
    axes.set(
        xlabel="probability from which on one would treat", ylabel="net benefit",
        title="Decision curve", xlim=(0, 1), ylim=(-0.25 * most - 0.02, 1.2 * most),
    )  # fmt: skip
    axes.legend(fontsize=8, loc="upper right")
    axes.grid(alpha=0.25)


def _show(found: Interval) -> str:
    if math.isnan(found.value):
        return "not defined"
    if math.isnan(found.low):
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose first row is the header."""
    header, *rest = rows
    return [_row(header), _row(["---"] * len(header)), *(_row(row) for row in rest)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
