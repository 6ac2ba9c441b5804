"""What predictions of several labels look like: ROC curves, AUROC of each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CURVES = 10


def draw_labels(
    figure: Figure,
    values: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
    areas: Sequence[float],
) -> str:
    """Two panels: ROC curves, and AUROC with the number of known labels.

    Args:
        figure: empty.
        values: probabilities [N, L].
        truth: 1, 0 or NaN, [N, L].
        names: of the labels.
        areas: AUROC of each label; NaN where it is not defined.
    """
    # Imported here: workers, which draw nothing, need not wait for it.
    from sklearn.metrics import roc_curve

    roc, bars = figure.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    texts = []
    for i, name in enumerate(names):
        known = np.isfinite(truth[:, i])
        ones = int((truth[:, i] == 1).sum())
        texts.append(f"{name}\n{ones} of {known.sum()}")
        if 0 < ones < known.sum() and i < _MOST_CURVES:
            wrong, right, _ = roc_curve(truth[known, i], values[known, i])
            roc.plot(wrong, right, linewidth=1, label=name)
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    roc.legend(fontsize=6)
    bars.barh(range(len(names)), areas)
    bars.axvline(0.5, color="grey", linewidth=0.8, linestyle=":")
    bars.set_yticks(range(len(names)), texts, fontsize=6)
    bars.set(xlim=(0, 1), xlabel="AUROC; beside it: 1 of all known")
    return "ROC and AUROC of each label, with how many of the known are 1"
