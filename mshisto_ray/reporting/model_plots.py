"""Several models of the same patients: ROC curves, and survival by risk group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.ranking import Ranking
from mshisto_ray.learning.risks import Risks
from mshisto_ray.statistics.survival.kaplan_meier import log_log_band
from mshisto_ray.statistics.survival.log_rank import log_rank

_COLUMNS = 4
_MOST = 12
_GROUPS = (("low risk", "tab:blue"), ("high risk", "tab:red"))


def plot_kaplan_meier(
    path: Path, title: str, models: Mapping[str, Risks], ranking: Ranking
) -> None:
    """Survival of the patients above and below the median risk of their fold (PNG).

    A panel a model, best first, twelve at most, with the log-rank p. No outcome chooses
    the cut. Shaded: pointwise 95 % intervals.

    Args:
        path: to write.
        title: of the figure.
        models: risks by name.
        ranking: of the models.
    """
    names = [place.model for place in ranking.places[:_MOST]]
    rows = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(3.2 * min(len(names), _COLUMNS), 0.5 + 2.6 * rows),
                    layout="constrained")  # fmt: skip
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        rows, min(len(names), _COLUMNS), sharex=True, sharey=True, squeeze=False
    )
    for axes, name in zip(panels.ravel(), names, strict=False):
        _draw_survival(axes, models[name], name)
    for axes in panels.ravel()[len(names) :]:
        axes.set_axis_off()
    panels[0, 0].legend(fontsize=7, loc="lower left")
    figure.suptitle(f"{title}: survival by risk group", fontsize=10)
    figure.savefig(path, dpi=90)


def high_risk(risks: Risks) -> np.ndarray:
    """Whether a risk is above the median of its fold, bool [N]."""
    high = np.zeros(len(risks.risk), bool)
    for fold in np.unique(risks.fold):
        rows = risks.fold == fold
        high[rows] = risks.risk[rows] > np.median(risks.risk[rows])
    return high


def plot_roc(
    path: Path, title: str, models: Mapping[str, Predictions], ranking: Ranking
) -> None:
    """ROC curves of all folds pooled, a panel a class, of two the second (PNG).

    Args:
        path: to write.
        title: of the figure.
        models: predictions by name; the best twelve are drawn.
        ranking: of the models.
    """
    from sklearn.metrics import roc_curve  # takes half a second to import

    classes = next(iter(models.values())).classes
    codes = [1] if len(classes) == 2 else range(len(classes))
    figure = Figure(figsize=(4.2 * len(codes), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(codes), squeeze=False)[0]
    for axes, code in zip(panels, codes, strict=True):
        for place in ranking.places[:_MOST]:
            found = models[place.model]
            truth = found.target == code
            if truth.any() and not truth.all():
                wrong, right, _ = roc_curve(truth, found.probabilities[:, code])
                axes.plot(wrong, right, label=place.model)
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        axes.set_title(classes[code], fontsize=9)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
    panels[0].legend(fontsize=7)
    figure.suptitle(f"{title}: ROC, all folds", fontsize=10)
    figure.savefig(path, dpi=90)


def _draw_survival(axes: Axes, risks: Risks, name: str) -> None:
    high = high_risk(risks)
    for is_high, (label, colour) in enumerate(_GROUPS):
        rows = high == bool(is_high)
        if not rows.any():
            continue
        curve, low, above = log_log_band(risks.time[rows], risks.event[rows])
        times = np.concatenate([[0.0], curve.times])
        values = np.concatenate([[1.0], curve.values[0]])
        axes.step(times, values, where="post", color=colour, label=label)
        axes.fill_between(
            curve.times, low, above, step="post", color=colour, alpha=0.15, lw=0
        )
    p = log_rank(risks.time, risks.event, high).p
    found = "< .001" if p < 0.001 else f"{p:.3f}"
    axes.set_title(f"{name}, log-rank p {found}", fontsize=8)
    axes.set_ylim(0, 1.02)
    axes.tick_params(labelsize=7)
