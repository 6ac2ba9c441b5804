"""What predicted risks look like: against time, and survival by quarters of risk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mshisto_ray.learning.targets._cells import quantile_codes
from mshisto_ray.statistics.survival.kaplan_meier import kaplan_meier
from mshisto_ray.statistics.survival.log_rank import log_rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GROUPS = 4
_SHADES = ("#1f77b4", "#7fb2d9", "#f4a582", "#c0392b")


def draw_survival(
    figure: Figure, risk: np.ndarray, truth: np.ndarray, time: str, event: str
) -> str:
    """Two panels: risk against time, and Kaplan-Meier's curves by quarters of risk.

    Args:
        figure: empty.
        risk: [N].
        truth: time and event (1, 0), [N, 2].
        time: name of the time's column.
        event: name of the event's column.
    """
    scatter, curves = figure.subplots(1, 2)
    died = truth[:, 1] > 0
    for rows, label in ((died, event), (~died, "censored")):
        scatter.plot(
            truth[rows, 0], risk[rows], ".", markersize=4, alpha=0.6, label=label
        )
    scatter.set(xlabel=time, ylabel="risk", title="risk")
    scatter.legend(fontsize=7)
    _draw_quarters(curves, risk, truth[:, 0], died)
    curves.set(xlabel=time, ylabel=f"without {event}", ylim=(0, 1.02))
    return (
        "Risk against time, and Kaplan-Meier's curves of each quarter of risk, folds "
        "pooled"
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
