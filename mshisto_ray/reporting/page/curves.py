"""ROC, precision-recall and confusion of predictions, as plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mshisto_ray.learning.metrics import decide
from mshisto_ray.learning.predictions import Predictions

_COLOURS = matplotlib.colormaps["tab10"]
_MOST_CLASSES = 10

Points = tuple[np.ndarray, np.ndarray]
_Place = Literal["lower right", "upper right"]


def roc_points(scores: np.ndarray, truth: np.ndarray) -> Points:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1).

    Args:
        scores: [N].
        truth: bool [N], with both values.
    """
    hits, called = _counts(scores, truth)
    misses = called - hits
    rates = (count / count[-1] for count in (misses, hits))
    false, true = (np.concatenate([[0.0], rate]) for rate in rates)
    return false, true


def precision_recall_points(scores: np.ndarray, truth: np.ndarray) -> Points:
    """Recall and precision where recall rises, from the highest threshold on.

    These are the points that average precision is the sum of.

    Args:
        scores: [N].
        truth: bool [N], some of them true.
    """
    hits, called = _counts(scores, truth)
    rises = np.diff(hits, prepend=0) > 0
    recall, precision = (hits / hits[-1])[rises], (hits / called)[rises]
    # Drawn as steps: each precision holds for the recall that it adds.
    return np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])


def _counts(scores: np.ndarray, truth: np.ndarray) -> Points:
    """Rows, and true ones, at or above each distinct score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    return np.cumsum(truth[order])[last], last + 1.0


def draw_roc(predictions: Predictions) -> Figure:
    """ROC curves; with repeats a thin line for each."""
    figure, axes = _square("1 - specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color="0.75", lw=1, ls="--")
    _draw_curves(axes, predictions, roc_points, needs_others=True)
    _name_curves(axes, predictions, "lower right")
    return figure


def draw_precision_recall(predictions: Predictions) -> Figure:
    """Precision-recall curves; dashed: precision of calling everything positive."""
    figure, axes = _square("recall (sensitivity)", "precision")
    for code in _shown(predictions):
        share = float((predictions.target == code).mean())
        axes.axhline(share, color=_colour(predictions, code), lw=0.8, ls="--")
    _draw_curves(axes, predictions, precision_recall_points, needs_others=False)
    _name_curves(axes, predictions, "upper right")
    return figure


def confusion(predictions: Predictions) -> np.ndarray:
    """Bags of each class (row) by what they are taken for (column), [C, C].

    Of several repeats the mean.
    """
    num = len(predictions.classes)
    counts = np.zeros((num, num))
    pairs = (predictions.target, decide(predictions.probabilities))
    np.add.at(counts, pairs, 1)
    return counts / len(np.unique(predictions.repeat))


def draw_confusion(predictions: Predictions) -> Figure:
    """The confusion matrix, coloured by the share of the row."""
    counts = confusion(predictions)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1e-9)
    figure, axes = _square("predicted", "label")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    size = 12 if len(counts) < 5 else 7
    for (row, column), count in np.ndenumerate(counts):
        ink = "white" if share[row, column] > 0.55 else "black"
        whole = f"{count:.0f}" if count == round(count) else f"{count:.1f}"
        text = f"{whole}\n{share[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
    names = [_short(name, 14) for name in predictions.classes]
    slant = 0 if len(names) < 4 else 45
    axes.set_xticks(range(len(names)), names, parse_math=False, rotation=slant)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    axes.grid(False)
    return figure


def has_both(predictions: Predictions) -> bool:
    """Whether at least two classes occur, without which there is no curve."""
    return len(np.unique(predictions.target)) > 1


def _square(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_curves(
    axes: Axes,
    predictions: Predictions,
    points: Callable[[np.ndarray, np.ndarray], Points],
    needs_others: bool,
) -> None:
    repeats = np.unique(predictions.repeat)
    look = {"lw": 2.0} if len(repeats) == 1 else {"lw": 0.9, "alpha": 0.7}
    for code in _shown(predictions):
        for repeat in repeats:
            rows = predictions.repeat == repeat
            truth = predictions.target[rows] == code
            if not truth.any() or (needs_others and truth.all()):
                continue
            x, y = points(predictions.probabilities[rows, code], truth)
            drawn = {"color": _colour(predictions, code), **look}
            if needs_others:
                axes.plot(x, y, **drawn)
            else:
                axes.step(x, y, where="pre", **drawn)


def _name_curves(axes: Axes, predictions: Predictions, place: _Place) -> None:
    """A legend, where there is more than one class to name."""
    shown = _shown(predictions)
    if len(shown) == 1:
        return
    for code in shown:
        name = _short(predictions.classes[code], 22)
        axes.plot([], [], color=_colour(predictions, code), lw=2, label=name)
    for text in axes.legend(loc=place, fontsize=8).get_texts():
        text.set_parse_math(False)


def _shown(predictions: Predictions) -> Sequence[int]:
    """The classes that have a curve: the second of two; of more, each that occurs."""
    if len(predictions.classes) == 2:
        return [1]
    return np.unique(predictions.target).tolist()[:_MOST_CLASSES]


def _colour(predictions: Predictions, code: int) -> tuple[float, ...]:
    return _COLOURS(0 if len(predictions.classes) == 2 else code % _MOST_CLASSES)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."
