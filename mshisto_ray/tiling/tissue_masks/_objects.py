"""Objects in masks: what touches something certain, what is large enough."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage


def connected(values: np.ndarray, high: float, low: float) -> np.ndarray:
    """Regions above ``low`` that hold a value above ``high`` (hysteresis)."""
    labels = _label(values > low)
    keep = np.zeros(labels.max() + 1, bool)
    keep[np.unique(labels[values > high])] = True
    keep[0] = False
    return keep[labels]


def without_small(mask: np.ndarray, min_pixels: float) -> np.ndarray:
    """Objects (8-connected) of at least ``min_pixels``."""
    labels = _label(mask)
    keep = np.bincount(labels.ravel()) >= min_pixels
    keep[0] = False
    return keep[labels]


def _label(mask: np.ndarray) -> np.ndarray:
    """Number of the 8-connected object of each pixel, 0 outside."""
    # scipy's stubs lose the type of a two-part result.
    labelled: Any = ndimage.label(mask, structure=np.ones((3, 3)))
    return labelled[0]
