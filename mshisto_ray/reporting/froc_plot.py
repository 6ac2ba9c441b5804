"""Free-response ROC curves, a line a class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.evaluation.froc import RATES, Froc

_LEAST, _MOST = RATES[0] / 2, RATES[-1] * 2


def plot_froc(path: Path, curves: Mapping[str, Froc]) -> None:
    """Draw sensitivity against false positives a slide, on a logarithmic axis (PNG)."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, froc in curves.items():
        sensitivity, per_slide, _ = froc.curve()
        x = np.clip(np.concatenate([[_LEAST], per_slide, [_MOST]]), _LEAST, _MOST)
        last = sensitivity[-1:] if len(sensitivity) else np.zeros(1)
        y = np.concatenate([[0.0], sensitivity, last])
        label = f"{name}, mean at the marks {froc.score():.3f}"
        axes.step(x, y, where="post", label=label)
        axes.plot(RATES, froc.sensitivities(), "o", markersize=4, color="black")
    axes.set_xscale("log", base=2)
    axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    axes.set_xlim(_LEAST, _MOST)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("false positives a slide")
    axes.set_ylabel("share of lesions or points found")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
