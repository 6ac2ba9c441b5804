"""What predictions of classes look like: ROC, PR, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mshisto_ray.learning.metrics import decide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TICKS = (0, 0.5, 1)  # every further one costs time


def draw(
    figure: Figure, values: np.ndarray, truth: np.ndarray, names: Sequence[str]
) -> str:
    """Four panels of predictions of classes.

    Of two classes the curves are those of the second, of more each against the rest.

    Args:
        figure: empty.
        values: probabilities [N, C].
        truth: class indices [N].
        names: of the classes.
    """
    # Imported here: workers, which draw nothing, need not wait for it.
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc, pr, calibration, confusion = figure.subplots(1, 4)
    for code in [1] if len(names) == 2 else range(len(names)):
        is_class = truth == code
        given = values[:, code]
        if is_class.all() or not is_class.any():
            continue
        wrong, right, _ = roc_curve(is_class, given)
        roc.plot(wrong, right, label=names[code])
        precision, recall, _ = precision_recall_curve(is_class, given)
        pr.plot(recall, precision, label=names[code])
        pr.axhline(is_class.mean(), color="grey", linewidth=0.8, linestyle=":")
    roc.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    _label(roc, "ROC", "false positive rate", "true positive rate")
    _label(pr, "PR (dotted: prevalence)", "recall", "precision")
    _draw_calibration(calibration, values, truth)
    draw_confusion(confusion, values, truth, names)
    return "ROC, precision and recall, calibration, confusion"


def _draw_calibration(axes: Axes, values: np.ndarray, truth: np.ndarray) -> None:
    # Imported here: workers, which draw nothing, need not wait for it.
    from mshisto_ray.statistics.calibration import reliability

    found = reliability(values.max(1), decide(values) == truth)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.plot(found.confidence, found.share, "o-", markersize=4)
    title = f"calibration, uncalibrated ECE {found.error:.3f}"
    _label(axes, title, "probability of the predicted class", "share that is right")
    axes.set_xlim(1 / values.shape[1], 1.02)


def draw_confusion(
    axes: Axes, values: np.ndarray, truth: np.ndarray, names: Sequence[str]
) -> None:
    """Bags of each class (row) by what they are taken for (column)."""
    from sklearn.metrics import confusion_matrix

    found = confusion_matrix(truth, decide(values), labels=range(len(names)))
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
