"""Reinhard's colour transfer in CIE L*a*b* to a named target, except of glass."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from mshisto_ray.config import InputError, InputPath
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
# Below this spread a channel has none.
_LEAST_SPREAD = 1e-3


def recipe(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that change pixels, with a digest in place of a file.

    Those at their defaults are left out that came after ``target``.
    """
    found = {"target": parameters["target"]}
    if parameters["over"] != "tissue":
        found["over"] = parameters["over"]
    if parameters["image"] is not None:
        content = Path(parameters["image"]).read_bytes()
        found["target"] = hashlib.blake2b(content, digest_size=16).hexdigest()
    return found


def build(
    *,
    target: Literal["cmu_1"] = "cmu_1",
    image: InputPath | None = None,
    over: Literal["tissue", "tile"] = "tissue",
) -> Stain:
    """Normalise the tissue of each tile to the target's mean and spread.

    Statistics are of tissue alone, and pixels near white are changed less or not at
    all: with statistics of all pixels, as published, a tile that is mostly glass would
    have its glass coloured and its noise amplified. Tissue paler than the tile's mean
    is stretched from white instead, the more the paler, which preserves its hue. A
    tile almost without tissue is left unchanged.

    Args:
        target: name of the staining to reach.
        image: file of a tile to reach in place of it, over its tissue or whole.
        over: ``tile``: mean and spread of all pixels, moved alike, as published; glass
            of a mixed tile is then coloured, and noise of a pale one amplified.

    Raises:
        InputError: no such image, or one without tissue.

    Source: Reinhard et al. 2001, "Color transfer between images", equations 10 and 11,
    in CIE L*a*b* in place of l-alpha-beta; ``over: tile`` with an ``image`` is the
    normalisation of Gildenblat and Klaiman 2019, section 3.2.
    """
    mean, spread = (np.array(values, np.float32) for values in TARGETS[target])
    if image is not None:
        mean, spread = _statistics_of(image, over)
    match = _normalise if over == "tissue" else _match

    def normalise(tiles: np.ndarray) -> np.ndarray:
        return np.stack([match(tile, mean, spread) for tile in tiles])

    return normalise


def _statistics_of(path: Path, over: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean [3] and spread [3] of an image's L*a*b*."""
    try:
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
    except OSError as error:
        raise InputError(f"stain.image: {path}: cannot be read ({error})") from None
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    if over == "tile":
        return lab.mean((0, 1)), lab.std((0, 1))
    weight = tissue_weight(lab)
    if weight.mean() < _LEAST_TISSUE:
        raise InputError(
            f"stain.image: {path} is nearly all glass: give a tile of tissue, or "
            "over=tile"
        )
    return weighted_statistics(lab, weight)


def _match(tile: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Move all pixels of a tile to a mean and spread in L*a*b*."""
    lab = cv2.cvtColor(tile.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    gain = spread / np.maximum(lab.std((0, 1)), _LEAST_SPREAD)
    moved = (lab - lab.mean((0, 1))) * gain + mean
    rgb = cv2.cvtColor(moved, cv2.COLOR_LAB2RGB)
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


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
