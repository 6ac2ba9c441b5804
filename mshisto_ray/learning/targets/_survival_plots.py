"""What predicted risks look like: against time, and events by quarters of risk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mshisto_ray.learning.targets._cells import quantile_codes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROUPS = 4


def draw_survival(
    figure: Figure, risk: np.ndarray, truth: np.ndarray, time: str, event: str
) -> str:
    """Two panels: risk against time, and the rate of events by quarters of risk.

    Args:
        figure: empty.
        risk: [N].
        truth: time and event (1, 0), [N, 2].
        time: name of the time's column.
        event: name of the event's column.
    """
    scatter, shares = figure.subplots(1, 2)
    died = truth[:, 1] > 0
    for rows, label in ((died, event), (~died, "censored")):
        scatter.plot(
            truth[rows, 0], risk[rows], ".", markersize=4, alpha=0.6, label=label
        )
    scatter.set(xlabel=time, ylabel="risk", title="risk")
    scatter.legend(fontsize=7)
    place = quantile_codes(risk, _GROUPS)
    rates = [
        died[place == i].sum() / max(truth[place == i, 0].sum(), 1e-12)
        for i in range(_GROUPS)
    ]
    shares.bar(range(1, _GROUPS + 1), rates)
    shares.set(
        xlabel="quarter of risk, the highest last",
        ylabel=f"events per unit of {time}",
        title="events observed",
    )
    shares.set_xticks(range(1, _GROUPS + 1))
    return "Risk against time, and the rate of events in each quarter of risk"
