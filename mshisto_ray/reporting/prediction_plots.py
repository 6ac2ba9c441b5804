"""What out-of-fold predictions look like, in one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mshisto_ray.learning.predictions import Predictions

_DPI = 75


def plot_predictions(path: Path, predictions: Predictions, title: str) -> None:
    """Draw the test predictions of all repeats together, as their target does (PNG).

    Args:
        path: to write.
        predictions: out of fold.
        title: of the figure.
    """
    # Fixed margins: a layout engine takes longer than all else that is logged.
    figure = Figure(figsize=(12, 3.4))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(0.05, 0.14, 0.99, 0.84, 0.3)
    given = predictions.probabilities, predictions.target, predictions.classes
    predictions.kind.draw(figure, *given)
    repeats = len(np.unique(predictions.repeat))
    noun = predictions.kind.noun
    figure.suptitle(
        f"{title}: test {noun}s of all folds, {repeats} repeats", fontsize=10
    )
    figure.savefig(path, dpi=_DPI)
