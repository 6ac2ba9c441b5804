"""Layout of a phantom slide: tissue, zones, glands and the planted signs.

Three labels, each visible at one scale or at two:

- ``label_fine``: a share of finest tiles carries ``fine_sign``, or none does.
- ``label_coarse``: the glands of the free context cells are arranged as in context A
  or as in context B. Both have half of their slots filled, so the multiset of finest
  and of middle tiles is the same.
- ``label_relation``: as many cells of context A as of B, and as many finest tiles with
  ``relation_sign``, in every slide; they lie in A cells in positive slides, in B
  cells in negative ones (an exclusive or of context and sign).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mshisto_ray.phantom.config import FINE_PER_COARSE, PhantomConfig

LABELS = ("label_fine", "label_coarse", "label_relation")
# Values of Layout.context.
NO_CONTEXT, CONTEXT_A, CONTEXT_B = 0, 1, 2
NUM_ZONES = 3
# Tissue and zones are laid out in pixels of this many level-0 pixels.
PLAN_PX = 16
# Streams of random numbers, so that no two uses share one.
_LABEL_STREAM, _LAYOUT_STREAM, STAIN_STREAM, DRAW_STREAM = range(4)
# Of the cells wholly in tissue: half A and half B for the relation, and those that
# label_coarse makes all A or all B. The rest is neutral.
_RELATION_SHARE, _COARSE_SHARE = 0.3, 0.4
_INSIDE = 0.97
_DIAGONAL = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]]], bool)
_ADJACENT = np.array(
    [[[1, 1], [0, 0]], [[0, 0], [1, 1]], [[1, 0], [1, 0]], [[0, 1], [0, 1]]], bool
)


@dataclass(frozen=True)
class Layout:
    """The plan of one slide; arrays are indexed [row, col] of their scale's grid.

    Attributes:
        labels: positive or not, per label.
        depth: float [h, w] in pixels of ``PLAN_PX``; tissue where above 0.
        zone: uint8 [h, w], likewise; which texture the tissue has.
        tissue: share of tissue in each finest tile.
        gland: middle tiles that hold a gland.
        context: coarse tiles' context.
        fine_sign: finest tiles that carry the sign of ``label_fine``.
        relation_sign: finest tiles that carry the sign of ``label_relation``.
    """

    labels: dict[str, bool]
    depth: np.ndarray
    zone: np.ndarray
    tissue: np.ndarray
    gland: np.ndarray
    context: np.ndarray
    fine_sign: np.ndarray
    relation_sign: np.ndarray


def stream(config: PhantomConfig, kind: int, number: int) -> np.random.Generator:
    """Random numbers that depend on the seed, a kind of use and a number alone."""
    return np.random.default_rng([config.seed, kind, number])


def patient_of(config: PhantomConfig, slide: int) -> int:
    """Number of the patient a slide is from."""
    return slide // config.slides_per_patient


def patient_labels(config: PhantomConfig, patient: int) -> dict[str, bool]:
    """Labels of a patient: all eight combinations once in every eight patients.

    Neighbours in order (0 and 1, 2 and 3, ...) have opposite labels, so that any even
    number of patients is balanced.
    """
    block, place = divmod(patient, 8)
    rng = stream(config, _LABEL_STREAM, block)
    pairs, flips = rng.permutation(4), rng.integers(0, 2, 4)
    code = int(pairs[place // 2])
    if (place + flips[place // 2]) % 2:
        code = 7 - code
    return {name: bool(code >> bit & 1) for bit, name in enumerate(LABELS)}


def plan(config: PhantomConfig, slide: int) -> Layout:
    """The layout of a slide, from (config, slide number) alone."""
    rng = stream(config, _LAYOUT_STREAM, slide)
    labels = patient_labels(config, patient_of(config, slide))
    depth = _depth(config, rng)
    zone = _zones(config, rng)
    tissue = _mean_blocks(np.clip(depth * PLAN_PX + 0.5, 0, 1), config.tile_px)
    coarse_tissue = _mean_blocks_of(tissue, FINE_PER_COARSE)
    cells = rng.permutation(np.argwhere(coarse_tissue >= _INSIDE))
    context, relation_cells = _contexts(cells, coarse_tissue.shape, labels)
    gland = _glands(config, context, cells, rng)
    count = round(config.witness_rate * np.count_nonzero(tissue >= 0.5))
    relation_sign = _relation_sign(relation_cells, tissue.shape, count, rng)
    fine_sign = np.zeros(tissue.shape, bool)
    free = rng.permutation(np.argwhere((tissue >= _INSIDE) & ~relation_sign))
    if labels["label_fine"]:
        fine_sign[tuple(free[:count].T)] = True
    return Layout(labels, depth, zone, tissue, gland, context, fine_sign, relation_sign)


def _depth(config: PhantomConfig, rng: np.random.Generator) -> np.ndarray:
    """Depth inside one or two irregular pieces of tissue (see ``Layout``)."""
    side = config.size // PLAN_PX
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    pieces = [(0.5, 0.5, 0.44, 0.40)]
    if rng.random() < 0.5:
        cut = rng.uniform(0.55, 0.65)
        pieces = [
            (0.06 + (cut - 0.08) / 2, 0.5, (cut - 0.10) / 2, 0.41),
            ((cut + 0.96) / 2, rng.uniform(0.4, 0.6), (0.94 - cut) / 2, 0.30),
        ]
    order = np.arange(2, 6)
    depth = np.full((side, side), -np.inf)
    for centre_x, centre_y, radius_x, radius_y in pieces:
        u, v = (x - centre_x) / radius_x, (y - centre_y) / radius_y
        angle = np.arctan2(v, u)[..., None]
        size, phase = rng.normal(0, 0.12, 4) / order, rng.uniform(0, 2 * np.pi, 4)
        edge = 1.02 + (size * np.cos(order * angle + phase)).sum(-1)
        depth = np.maximum(depth, (edge - np.hypot(u, v)) * radius_y * side)
    if rng.random() < 0.5:
        depth = depth.T
    rough = ndimage.gaussian_filter(rng.standard_normal(depth.shape), 2)
    return np.ascontiguousarray(depth) + 4 * rough


def _zones(config: PhantomConfig, rng: np.random.Generator) -> np.ndarray:
    """Zone of each plan pixel: the largest of three smooth random fields."""
    side, sigma = config.size // PLAN_PX, config.region / PLAN_PX
    white = rng.standard_normal((NUM_ZONES, side, side))
    fields = ndimage.gaussian_filter(white, (0, sigma, sigma))
    return fields.argmax(axis=0).astype(np.uint8)


def _contexts(
    cells: np.ndarray, shape: tuple[int, ...], labels: dict[str, bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Each coarse tile's context, and the cells that hold the relation's signs.

    Counts are multiples of two per context, as ``_glands`` may pair cells.
    """
    half = 2 * max(1, round(len(cells) * _RELATION_SHARE / 4))
    free = 2 * max(1, round(len(cells) * _COARSE_SHARE / 2))
    assert len(cells) >= 2 * half + free, "too little tissue for the signs"
    in_a, in_b = cells[:half], cells[half : 2 * half]
    context = np.full(shape, NO_CONTEXT, np.uint8)
    context[tuple(in_a.T)] = CONTEXT_A
    context[tuple(in_b.T)] = CONTEXT_B
    chosen = cells[2 * half : 2 * half + free]
    context[tuple(chosen.T)] = CONTEXT_A if labels["label_coarse"] else CONTEXT_B
    return context, in_a if labels["label_relation"] else in_b


def _glands(
    config: PhantomConfig,
    context: np.ndarray,
    cells: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Which middle tiles hold a gland: two of four on average in either context.

    Matched colours: two on a diagonal (A) or side by side (B). Else: all or none,
    equally often (A), or any two (B), which the colour of a coarse tile shows and
    that of a smaller one cannot.
    """
    gland = np.zeros((2 * context.shape[0], 2 * context.shape[1]), bool)
    full = True
    for row, col in cells:
        diagonal = _DIAGONAL[rng.integers(2)]
        adjacent = _ADJACENT[rng.integers(4)]
        kind = context[row, col]
        if kind == NO_CONTEXT:
            slots = np.zeros((2, 2), bool)
            slots.flat[rng.integers(4)] = True
        elif config.colour_matched:
            slots = diagonal if kind == CONTEXT_A else adjacent
        elif kind == CONTEXT_A:
            slots, full = np.full((2, 2), full), not full
        else:
            slots = diagonal if rng.random() < 1 / 3 else adjacent
        gland[2 * row : 2 * row + 2, 2 * col : 2 * col + 2] = slots
    return gland


def _relation_sign(
    cells: np.ndarray, shape: tuple[int, ...], count: int, rng: np.random.Generator
) -> np.ndarray:
    """``count`` finest tiles, spread evenly over the cells."""
    sign = np.zeros(shape, bool)
    shares = [len(part) for part in np.array_split(np.arange(count), len(cells))]
    for (row, col), share in zip(cells, shares, strict=True):
        places = rng.permutation(FINE_PER_COARSE**2)[:share]
        down, right = np.divmod(places, FINE_PER_COARSE)
        sign[FINE_PER_COARSE * row + down, FINE_PER_COARSE * col + right] = True
    return sign


def _mean_blocks(plan_pixels: np.ndarray, tile_px: int) -> np.ndarray:
    return _mean_blocks_of(plan_pixels, tile_px // PLAN_PX)


def _mean_blocks_of(values: np.ndarray, side: int) -> np.ndarray:
    rows, cols = (length // side for length in values.shape)
    return values.reshape(rows, side, cols, side).mean(axis=(1, 3))
