"""What predicted risks look like: against time, and survival by quarters of risk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mshisto_ray.learning.targets._cells import quantile_codes
from mshisto_ray.statistics.survival.kaplan_meier import kaplan_meier, log_log_band
from mshisto_ray.statistics.survival.log_rank import log_rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GROUPS = 4
_SHADES = ("#1f77b4", "#7fb2d9", "#f4a582", "#c0392b")


def draw_survival(
    figure: Figure,
    risk: np.ndarray,
    truth: np.ndarray,
    time: str,
    event: str,
    predicted: tuple[float, np.ndarray] | None = None,
) -> str:
    """Risk against time, Kaplan-Meier's curves by quarters of risk, and calibration.

    Args:
        figure: empty.
        risk: [N].
        truth: time and event (1, 0), [N, 2].
        time: name of the time's column.
        event: name of the event's column.
        predicted: a time, and the probability of each to live beyond it, [N]; without
            it there is no panel of calibration.
    """
    scatter, curves, *last = figure.subplots(1, 3 if predicted else 2)
    died = truth[:, 1] > 0
    for rows, label in ((died, event), (~died, "censored")):
        scatter.plot(
            truth[rows, 0], risk[rows], ".", markersize=4, alpha=0.6, label=label
        )
    scatter.set(xlabel=time, ylabel="risk", title="risk")
    scatter.legend(fontsize=7)
    _draw_quarters(curves, risk, truth[:, 0], died)
    curves.set(xlabel=time, ylabel=f"without {event}", ylim=(0, 1.02))
    shown = "Kaplan-Meier's curves of each quarter of risk"
    if predicted is None:
        return f"Risk against time, and {shown}, folds pooled"
    horizon, survival = predicted
    _draw_calibration(last[0], survival, truth[:, 0], died, horizon)
    last[0].set(xlabel=f"predicted without {event} at {time} {horizon:g}")
    return (
        f"Risk against time, {shown}, and what quarters of predicted survival at "
        f"{time} {horizon:g} come to, folds pooled"
    )


def _draw_quarters(
    axes: Axes, risk: np.ndarray, time: np.ndarray, died: np.ndarray
) -> None:
    place = quantile_codes(risk, _GROUPS)
    for group, colour in enumerate(_SHADES):
        rows = place == group
        if not rows.any():
            continue
        curve = kaplan_meier(time[rows], died[rows])
        label = f"quarter {group + 1} ({int(died[rows].sum())} of {int(rows.sum())})"
        axes.step(
            np.concatenate([[0.0], curve.times]),
            np.concatenate([[1.0], curve.values[0]]),
            where="post",
            color=colour,
            label=label,
        )
    p = log_rank(time, died, place).p
    found = (
        "" if np.isnan(p) else ", log-rank p " + ("< .001" if p < 0.001 else f"{p:.3f}")
    )
    axes.set_title(f"Kaplan-Meier{found}")
    axes.legend(fontsize=7, title="risk, highest last (events)", title_fontsize=7)


def _draw_calibration(
    axes: Axes, survival: np.ndarray, time: np.ndarray, died: np.ndarray, horizon: float
) -> None:
    """Mean prediction of each quarter against Kaplan-Meier's estimate of it."""
    place = quantile_codes(-survival, _GROUPS)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    missing = 0
    for group, colour in enumerate(_SHADES):
        rows = place == group
        if not rows.any() or time[rows].max() < horizon:
            missing += 1
            continue
        curve, low, high = log_log_band(time[rows], died[rows])
        step = int(np.searchsorted(curve.times, horizon, side="right")) - 1
        value = curve.values[0, step] if step >= 0 else 1.0
        ends = (low[step], high[step]) if step >= 0 else (1.0, 1.0)
        x = float(survival[rows].mean())
        if np.isfinite(ends).all():
            axes.plot([x, x], ends, color=colour, linewidth=1)
        axes.plot(x, value, "o", color=colour, markersize=5)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="Kaplan-Meier of the quarter")
    left = f", {missing} quarters not observed so long" if missing else ""
    axes.set_title(f"calibration{left}")
