"""The pixels of a phantom slide: stained tissue, its signs, light and noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.layout import (
    DRAW_STREAM,
    PLAN_PX,
    STAIN_STREAM,
    Layout,
    patient_of,
    stream,
)
from mshisto_ray.phantom.sign import BLOCK_PX, grains, keep_room, repeat
from mshisto_ray.phantom.tissue import draw_glands, fibres, scatter_nuclei

_NOISE_PX = 512
_NOISE_RANGE = 18


def draw(config: PhantomConfig, slide: int, layout: Layout) -> np.ndarray:
    """Level 0 of a slide: uint8 [size, size, 3].

    The same slide with other signs differs only in the signs' tiles.
    """
    rng = stream(config, DRAW_STREAM, slide)
    table = _stain(config, stream(config, STAIN_STREAM, patient_of(config, slide)))
    inside = np.clip(_enlarge(layout.depth * PLAN_PX / BLOCK_PX) + 0.5, 0, 1)
    zone = layout.zone.repeat(PLAN_PX, 0).repeat(PLAN_PX, 1)
    turn = rng.uniform(0, np.pi)
    eosin = fibres(zone, turn, rng)
    eosin = (eosin * repeat(inside, BLOCK_PX)).astype(np.uint8)
    nuclei = np.zeros_like(eosin)
    draw_glands(config, layout, eosin, nuclei, rng)
    scatter_nuclei(config, layout, nuclei, turn, rng)
    pixels = table.take((eosin >> 2).astype(np.uint16) << 6 | nuclei >> 2, axis=0)
    grey = grains(config, layout, eosin, nuclei, rng)
    _add_noise(pixels, grey, config, rng)
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)


def _stain(config: PhantomConfig, rng: np.random.Generator) -> np.ndarray:
    """A patient's colours: int16 [64 * 64, 3] of (eosin, haematoxylin) density."""
    eosin = np.array([0.09, 0.80, 0.36]) * np.exp(rng.normal(0, 0.08, 3))
    haematoxylin = np.array([0.95, 1.20, 0.55]) * np.exp(rng.normal(0, 0.06, 3))
    glass = np.array([244, 243, 246]) + rng.normal(0, 1.5, 3)
    amount = np.arange(64) / 63
    density = (amount * rng.uniform(0.85, 1.15))[:, None, None] * eosin
    density = density + (amount * rng.uniform(0.9, 1.1))[:, None] * haematoxylin
    colours = np.rint(glass * np.exp(-density)).astype(np.int16)
    keep_room(colours, _NOISE_RANGE, config)
    return colours.reshape(-1, 3)


def _add_noise(
    pixels: np.ndarray,
    grey: np.ndarray,
    config: PhantomConfig,
    rng: np.random.Generator,
) -> None:
    """Add grey levels, sensor noise and uneven light to int16 [size, size, 3]."""
    size, side = config.size, _NOISE_PX
    noise = np.rint(rng.normal(0, 2, (side, side, 3))).astype(np.int16)
    slope = rng.uniform(-config.light, config.light, 2)
    ramp = np.linspace(-1, 1, size)
    grey += np.rint(slope[0] * ramp[:, None] + slope[1] * ramp).astype(np.int16)
    # Colour by colour, block by block: twice as fast as on the whole array.
    for top, left in np.ndindex(-(-size // side), -(-size // side)):
        place = np.s_[top * side : (top + 1) * side, left * side : (left + 1) * side]
        part = pixels[place]
        part += noise[: part.shape[0], : part.shape[1]]
        for colour in range(3):
            part[..., colour] += grey[place]


def _enlarge(plan: np.ndarray) -> np.ndarray:
    zoomed = ndimage.zoom(
        plan, PLAN_PX // BLOCK_PX, order=1, grid_mode=True, mode="nearest"
    )
    return np.asarray(zoomed)
