"""The signs of a phantom: patterns of grains in nuclei and in the tissue between them.

Both are made of blocks of two by two pixels, of zero mean in each block: at twice the
finest mpp they vanish. Tissue always has the plain pattern, the two dark pixels of a
block side by side. A sign with matched colours has them on a diagonal, so that no
statistic of single pixels separates the two: the same pixels, arranged differently.
Else it has one much darker pixel in each block.
"""

from __future__ import annotations

import numpy as np

from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.layout import Layout

BLOCK_PX = 2
# Grey levels. Grey, as JPEG treats chroma's fine grains far more coarsely.
_CHROMATIN, _CHROMATIN_COLOURED, _GRANULES = 36, 25, 18
# Least density, of 255, of eosin that has granules and of nuclei with chromatin.
_GRANULAR_EOSIN, _CHROMATIN_DENSITY = 52, 150


def keep_room(colours: np.ndarray, noise: int, config: PhantomConfig) -> None:
    """Move colours [eosin, nuclei, 3] off black and white, to leave room for grains.

    Clipped grains would not have zero mean. Densities are in quarters.
    """
    granular = colours[_GRANULAR_EOSIN >> 2 :]
    chromatin = colours[:, _CHROMATIN_DENSITY >> 2 :]
    darkest = 1 if config.colour_matched else 3
    for part, contrast in ((granular, _GRANULES), (chromatin, _contrast(config))):
        top = 255 - noise - contrast
        np.clip(part, noise + darkest * contrast, top, out=part)


def _contrast(config: PhantomConfig) -> int:
    """Contrast of chromatin, in grey levels."""
    return _CHROMATIN if config.colour_matched else _CHROMATIN_COLOURED


def grains(
    config: PhantomConfig,
    layout: Layout,
    eosin: np.ndarray,
    nuclei: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Grey levels that chromatin and granules add: int16 [size, size]."""
    blocks = config.size // BLOCK_PX
    per_tile = config.tile_px // BLOCK_PX
    plain, sign = _patterns(blocks, rng, config.colour_matched)
    chromatin = _blockwise(nuclei, np.minimum) >= _CHROMATIN_DENSITY
    granular = _blockwise(eosin, np.minimum) >= _GRANULAR_EOSIN
    granular &= _blockwise(nuclei, np.maximum) <= 60
    has_sign = chromatin & repeat(layout.fine_sign, per_tile)
    has_sign |= granular & repeat(layout.relation_sign, per_tile)
    contrast = chromatin * np.int16(_contrast(config)) + granular * np.int16(_GRANULES)
    pattern = np.where(repeat(has_sign, BLOCK_PX), sign, plain)
    return pattern * repeat(contrast, BLOCK_PX)


def _patterns(
    blocks: int, rng: np.random.Generator, matched: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Plain and sign patterns: int16 [2 blocks, 2 blocks]."""
    adjacent = np.array(
        [
            [[1, 1], [-1, -1]],
            [[-1, -1], [1, 1]],
            [[1, -1], [1, -1]],
            [[-1, 1], [-1, 1]],
        ]
    )
    diagonal = np.array([[[1, -1], [-1, 1]], [[-1, 1], [1, -1]]])
    one_dark = np.ones((4, 2, 2), int)
    one_dark.reshape(4, 4)[np.arange(4), np.arange(4)] = -3
    phase = rng.integers(0, 4, (blocks, blocks))

    def laid_out(patterns: np.ndarray, which: np.ndarray) -> np.ndarray:
        pixels = np.empty((blocks, BLOCK_PX, blocks, BLOCK_PX), np.int16)
        for y, x in np.ndindex(BLOCK_PX, BLOCK_PX):
            pixels[:, y, :, x] = patterns[:, y, x].astype(np.int16)[which]
        return pixels.reshape(BLOCK_PX * blocks, BLOCK_PX * blocks)

    sign = laid_out(diagonal, phase // 2) if matched else laid_out(one_dark, phase)
    return laid_out(adjacent, phase), sign


def _blockwise(values: np.ndarray, of_two: np.ufunc) -> np.ndarray:
    rows = of_two(values[::BLOCK_PX], values[1::BLOCK_PX])
    return of_two(rows[:, ::BLOCK_PX], rows[:, 1::BLOCK_PX])


def repeat(values: np.ndarray, times: int) -> np.ndarray:
    """Each value as a square of ``times`` by ``times``."""
    return values.repeat(times, 0).repeat(times, 1)
