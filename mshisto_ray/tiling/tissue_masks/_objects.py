"""Shared steps of tissue masks: smoothing, hysteresis threshold, size filter."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage


def smooth_channels(pixels: np.ndarray, sigma: float) -> list[np.ndarray]:
    """Red, green and blue of uint8 [h, w, 3], Gaussian-smoothed; float32 [h, w] each.

    Channel by channel to save memory: a thumbnail has up to 20 million pixels.
    """
    channels = (pixels[..., i].astype(np.float32) for i in range(3))
    return [ndimage.gaussian_filter(channel, sigma) for channel in channels]


def connected(values: np.ndarray, high: float, low: float) -> np.ndarray:
    """Regions above ``low`` that hold a value above ``high`` (hysteresis)."""
    labels = _label(values > low)
    keep = np.zeros(labels.max() + 1, bool)
    keep[np.unique(labels[values > high])] = True
    keep[0] = False
    return keep[labels]


def without_small(mask: np.ndarray, min_pixels: float) -> np.ndarray:
    """The mask without (8-connected) objects smaller than ``min_pixels``."""
    labels = _label(mask)
    keep = np.bincount(labels.ravel()) >= min_pixels
    keep[0] = False
    return keep[labels]


def _label(mask: np.ndarray) -> np.ndarray:
    """Number of the 8-connected object of each pixel, 0 outside."""
    # scipy's stubs lose the type of a two-part result.
    labelled: Any = ndimage.label(mask, structure=np.ones((3, 3)))
    return labelled[0]
