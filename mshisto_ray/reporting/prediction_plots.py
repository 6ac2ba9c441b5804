"""What out-of-fold predictions look like: ROC, PR, calibration, confusion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from mshisto_ray.learning.metrics import decide
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.statistics.calibration import reliability

_DPI = 75
_TICKS = (0, 0.5, 1)  # every further one costs time


def plot_predictions(path: Path, predictions: Predictions, title: str) -> None:
    """Four panels of the test predictions of all repeats together (PNG).

    Of two classes the curves are those of the second, of more each against the rest.

    Args:
        path: to write.
        predictions: out of fold.
        title: of the figure.
    """
    # Fixed margins: a layout engine takes longer than all else that is logged.
    figure = Figure(figsize=(12, 3.4))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(0.05, 0.14, 0.99, 0.84, 0.3)
    roc, pr, calibration, confusion = figure.subplots(1, 4)
    names = predictions.classes
    for code in [1] if len(names) == 2 else range(len(names)):
        truth = predictions.target == code
        given = predictions.probabilities[:, code]
        if truth.all() or not truth.any():
            continue
        wrong, right, _ = roc_curve(truth, given)
        roc.plot(wrong, right, label=names[code])
        precision, recall, _ = precision_recall_curve(truth, given)
        pr.plot(recall, precision, label=names[code])
        pr.axhline(truth.mean(), color="grey", linewidth=0.8, linestyle=":")
    roc.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    _label(roc, "ROC", "false positive rate", "true positive rate")
    _label(pr, "PR (dotted: prevalence)", "recall", "precision")
    _draw_calibration(calibration, predictions)
    _draw_confusion(confusion, predictions)
    repeats = len(np.unique(predictions.repeat))
    figure.suptitle(f"{title}: test bags of all folds, {repeats} repeats", fontsize=10)
    figure.savefig(path, dpi=_DPI)


def _draw_calibration(axes: Axes, predictions: Predictions) -> None:
    confidence = predictions.probabilities.max(1)
    correct = decide(predictions.probabilities) == predictions.target
    found = reliability(confidence, correct)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.plot(found.confidence, found.share, "o-", markersize=4)
    title = f"calibration, uncalibrated ECE {found.error:.3f}"
    _label(axes, title, "probability of the predicted class", "share that is right")
    axes.set_xlim(1 / len(predictions.classes), 1.02)


def _draw_confusion(axes: Axes, predictions: Predictions) -> None:
    names = predictions.classes
    decided = decide(predictions.probabilities)
    found = confusion_matrix(predictions.target, decided, labels=range(len(names)))
    shares = found / np.maximum(found.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*found.shape):
        dark = shares[row, column] > 0.5
        axes.text(
            column, row, f"{found[row, column]}\n{shares[row, column]:.0%}",
            ha="center", va="center", color="white" if dark else "black", fontsize=8,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8, rotation=90, va="center")
    axes.set_title("confusion", fontsize=9)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("label", fontsize=8)


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.set_xticks(_TICKS)
    axes.set_yticks(_TICKS)
    axes.tick_params(labelsize=7)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(-0.02, 1.02)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(fontsize=7)
