"""Reinhard's colour transfer in CIE L*a*b* to a named target, except of glass."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from mshisto_ray.embedding.stains._stain import Stain

# Mean and standard deviation of L*, a*, b* over the tissue of a slide, weighted as
# below. cmu_1: CMU-1-Small-Region (OpenSlide's test data, CC0), a strong H&E.
TARGETS = {
    "cmu_1": ((48.7, 28.3, -12.2), (20.1, 13.0, 9.9)),
}
_WHITE = np.array([100, 0, 0], np.float32)
# Distance from white in L*a*b* below which a pixel is glass, and above which tissue.
_GLASS, _TISSUE = 10.0, 20.0
# With less tissue, its mean and spread do not characterise the stain.
_LEAST_TISSUE = 0.02
# A tile of one colour has hardly any spread: its noise is not amplified to a texture.
_MAX_GAIN = 2.0


def build(*, target: Literal["cmu_1"] = "cmu_1") -> Stain:
    """Normalise the tissue of each tile to the target's mean and spread.

    Statistics are of tissue alone, and pixels near white are changed less or not at
    all: with statistics of all pixels, as published, a tile that is mostly glass would
    have its glass coloured and its noise amplified. Tissue paler than the tile's mean
    is stretched from white instead, the more the paler, which preserves its hue. A
    tile almost without tissue is left unchanged.

    Args:
        target: name of the staining to reach.

    Source: Reinhard et al. 2001, "Color transfer between images", equations 10 and 11,
    in CIE L*a*b* in place of l-alpha-beta.
    """
    mean, spread = (np.array(values, np.float32) for values in TARGETS[target])

    def normalise(tiles: np.ndarray) -> np.ndarray:
        return np.stack([_normalise(tile, mean, spread) for tile in tiles])

    return normalise


def _normalise(tile: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(tile.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    weight = tissue_weight(lab)
    if weight.mean() < _LEAST_TISSUE:
        return tile
    own_mean, own_spread = weighted_statistics(lab, weight)
    gain = np.minimum(spread / np.maximum(own_spread, 1e-3), _MAX_GAIN)
    moved = (lab - own_mean) * gain + mean
    moved += _paleness(lab, own_mean) * (_from_white(lab, own_mean, mean) - moved)
    lab += weight[..., None] * (moved - lab)
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    result = np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    # Conversion and back rounds: pixels of weight 0 are copied bit by bit.
    return np.where(weight[..., None] > 0, result, tile)


def _paleness(lab: np.ndarray, own_mean: np.ndarray) -> np.ndarray:
    """1 at white, 0 from the tissue's mean darkness on; [H, W, 1]."""
    return np.clip(1 - (_WHITE - lab)[..., :1] / (_WHITE - own_mean)[0], 0, 1)


def _from_white(lab: np.ndarray, own_mean: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Colours stretched from white, so that the tile's mean meets the target's.

    In a dark, strongly stained tile, pale tissue is so far from the mean that the
    affine transfer moves it past white: pink turns green. Stretching from white
    preserves each colour's hue.
    """
    ratio = (mean - _WHITE) / np.where(own_mean == _WHITE, 1, own_mean - _WHITE)
    return _WHITE + (lab - _WHITE) * np.clip(ratio, 1 / _MAX_GAIN, _MAX_GAIN)


def tissue_weight(lab: np.ndarray) -> np.ndarray:
    """Weight from 0 on glass to 1 on tissue; L*a*b* [H, W, 3] to [H, W]."""
    from_white = np.linalg.norm(lab - _WHITE, axis=2)
    return np.clip((from_white - _GLASS) / (_TISSUE - _GLASS), 0, 1)


def weighted_statistics(
    lab: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean [3] and standard deviation [3] of L*, a*, b*."""
    share = (weight / weight.sum()).reshape(-1)
    pixels = lab.reshape(-1, 3)
    mean = share @ pixels
    return mean, np.sqrt(share @ (pixels - mean) ** 2)
