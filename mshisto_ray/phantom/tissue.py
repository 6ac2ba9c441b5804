"""Textures of phantom tissue: fibres, nuclei, glands."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.layout import NUM_ZONES, PLAN_PX, Layout

_TEXTURE_PX = 512
_NUCLEUS_PX = 32
_SPACING_PX = 22


def fibres(zone: np.ndarray, turn: float, rng: np.random.Generator) -> np.ndarray:
    """Eosin of the three zones: wavy bundles, a felt without direction, a weave; uint8.

    All three have the same values, and about the same at every scale: they differ in
    direction alone.
    """
    side = _TEXTURE_PX
    v = np.fft.fftfreq(side)[:, None] * side
    u = np.fft.fftfreq(side)[None, :] * side
    radius, angle = np.hypot(u, v), np.arctan2(v, u) - turn
    band = np.exp(-(((radius - 28) / 12) ** 2))
    one_way = np.exp(-((np.sin(angle) / 0.25) ** 2))
    two_ways = one_way + np.exp(-((np.cos(angle) / 0.25) ** 2))
    spectra = (band * one_way, band, band * two_ways)
    values = np.clip(rng.normal(125, 26, side * side), 60, 200)
    values = np.sort(values).astype(np.uint8)
    y, x = np.mgrid[:side, :side]
    wave = 2 * np.pi / side
    shift_y = (10 * np.sin(wave * (2 * x + y)) + 6 * np.sin(wave * (5 * y))).astype(int)
    shift_x = (10 * np.sin(wave * (2 * y - x)) + 6 * np.sin(wave * (4 * x))).astype(int)
    repeats = -(-zone.shape[0] // side)
    result = np.empty(zone.shape, np.uint8)
    for number, spectrum in enumerate(spectra):
        white = np.fft.fft2(rng.standard_normal((side, side)))
        field = np.fft.ifft2(white * spectrum).real
        texture = np.empty(side * side, np.uint8)
        texture[field.argsort(axis=None)] = values
        texture = texture.reshape(side, side)
        texture = texture[(y + shift_y) % side, (x + shift_x) % side]
        tiled = np.tile(texture, (repeats, repeats))[: zone.shape[0], : zone.shape[1]]
        np.copyto(result, tiled, where=zone == number)
    return result


def draw_glands(
    config: PhantomConfig,
    layout: Layout,
    eosin: np.ndarray,
    nuclei: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Draw a gland into each of its slots; nothing of it leaves the slot."""
    side = 2 * config.tile_px
    bank = [_gland(side, rng) for _ in range(12)]
    for row, col in np.argwhere(layout.gland):
        mask, gland_eosin, gland_nuclei = bank[rng.integers(len(bank))]
        quarter, flip = rng.integers(4), rng.integers(2)
        place = np.s_[row * side : (row + 1) * side, col * side : (col + 1) * side]

        def turned(part: np.ndarray, quarter=quarter, flip=flip) -> np.ndarray:
            part = np.rot90(part, int(quarter))
            return part[::-1] if flip else part

        np.copyto(eosin[place], turned(gland_eosin), where=turned(mask))
        np.copyto(nuclei[place], turned(gland_nuclei), where=turned(mask))


def _gland(
    side: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, eosin and haematoxylin of a ring of tall cells around a lumen."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    angle, radius = np.arctan2(y, x), np.hypot(y, x) / (side / 2)
    wobble = 1 + 0.02 * np.cos(2 * angle + rng.uniform(0, 6.3))
    wobble += 0.02 * np.cos(3 * angle + rng.uniform(0, 6.3))
    outer, lumen = 0.95 * wobble, rng.uniform(0.30, 0.42) * wobble**3
    # Outside it is more of a square: neighbours lie back to back.
    mask = (x**4 + y**4) ** 0.25 / (side / 2) < outer
    eosin = np.where(radius < lumen, 12, 120).astype(np.uint8)
    eosin[(radius > lumen) & (radius < lumen + 0.06)] = 165
    tint = np.where(radius < lumen, 0, 45).astype(np.uint8)
    nuclei = np.zeros((side + _NUCLEUS_PX, side + _NUCLEUS_PX), np.uint8)
    count = round(2 * np.pi * 0.75 * side / 2 / 17)
    start = rng.uniform(0, 6.3)
    for turn in start + 2 * np.pi * np.arange(count) / count:
        reach = rng.uniform(0.72, 0.78) * side / 2
        nucleus = _nucleus(10.5, 7.5, turn, float(rng.integers(165, 225)))
        centre = (side + _NUCLEUS_PX) / 2
        _stamp(
            nuclei,
            nucleus,
            round(centre + reach * np.sin(turn)),
            round(centre + reach * np.cos(turn)),
        )
    half = _NUCLEUS_PX // 2
    return mask, eosin, np.maximum(tint, nuclei[half:-half, half:-half])


def scatter_nuclei(
    config: PhantomConfig,
    layout: Layout,
    nuclei: np.ndarray,
    turn: float,
    rng: np.random.Generator,
) -> None:
    """Draw nuclei outside glands.

    Matched colours: spindles along the fibres, round, or spindles both ways. Else:
    sparse spindles, an even spread of round nuclei, or dense clusters.
    """
    step = _SPACING_PX
    num = config.size // step
    grid = (np.mgrid[:num, :num].reshape(2, -1).T + 0.5) * step
    sway = ndimage.gaussian_filter(rng.standard_normal((2, num, num)), (0, 2.5, 2.5))
    swayed = grid + 90 * sway.reshape(2, -1).T
    jittered = swayed + rng.uniform(-0.32, 0.32, grid.shape) * step
    middle = 0.38 * ((np.floor(grid / (2 * step)) + 0.5) * 2 * step - grid)
    clustered = swayed + middle + rng.uniform(-3.5, 3.5, grid.shape)
    kind = layout.zone[tuple((grid / PLAN_PX).astype(int).T)]
    in_cluster = (kind == 2) & (not config.colour_matched)
    places = np.where(in_cluster[:, None], clustered, jittered)
    places = np.clip(np.rint(places).astype(int), 0, config.size - 1)
    density = np.full(NUM_ZONES, 0.8)
    if not config.colour_matched:
        density = np.array([0.5, 0.75, 1.0])
    keep = rng.random(len(grid)) < density[kind]
    keep &= layout.depth[tuple((places // PLAN_PX).T)] > 0.5
    slot = 2 * config.tile_px
    local = (places % slot) - slot / 2
    in_gland = layout.gland[tuple((places // slot).T)]
    keep &= ~in_gland | (np.hypot(*local.T) > slot / 2 * 1.2)
    # Spread of the direction, chance to lie across, length and width.
    shapes = ((0.3, 0, 12.5, 6.2), (3, 0, 9, 8.6), (0.3, 0.5, 12.5, 6.2))
    if not config.colour_matched:
        shapes = ((0.3, 0, 12.5, 6.2), (3, 0, 9.5, 8), (3, 0, 9.5, 8))
    bank = []
    for spread, across, length, width in shapes:
        turns = turn + np.pi / 2 + rng.normal(0, spread, 48)
        turns += np.pi / 2 * (rng.random(48) < across)
        sizes = rng.uniform(0.88, 1.12, 48)
        bank.append(
            [
                _nucleus(
                    length * size, width * size, way, float(rng.integers(165, 225))
                )
                for way, size in zip(turns, sizes, strict=True)
            ]
        )
    picks = rng.integers(0, 48, len(grid))
    for index in np.flatnonzero(keep):
        _stamp(nuclei, bank[kind[index]][picks[index]], *places[index])


def _nucleus(length: float, width: float, turn: float, density: float) -> np.ndarray:
    """One nucleus: an ellipse with a soft edge; uint8 density."""
    y, x = np.mgrid[:_NUCLEUS_PX, :_NUCLEUS_PX] - (_NUCLEUS_PX - 1) / 2
    along = x * np.cos(turn) + y * np.sin(turn)
    across = y * np.cos(turn) - x * np.sin(turn)
    radius = np.hypot(along / length, across / width)
    soft = np.clip((1 - radius) * min(length, width) / 1.5 + 0.5, 0, 1)
    return (density * soft).astype(np.uint8)


def _stamp(canvas: np.ndarray, nucleus: np.ndarray, y: int, x: int) -> None:
    """Put a nucleus with its centre at (y, x); the darker of two wins."""
    top, left = y - _NUCLEUS_PX // 2, x - _NUCLEUS_PX // 2
    if top < 0 or left < 0:
        return
    view = canvas[top : top + _NUCLEUS_PX, left : left + _NUCLEUS_PX]
    if view.shape == nucleus.shape:
        np.maximum(view, nucleus, out=view)
