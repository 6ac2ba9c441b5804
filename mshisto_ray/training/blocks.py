"""Blocks of tiles in memory: neighbourhoods read once and drawn from many times.

Pairs are random, but slides are read fastest in one piece. So training proceeds block
by block: a block is some windows of some slides, at every scale, and pairs are drawn
only among its tiles. Blocks are a pure function of (seed, number).
"""

from __future__ import annotations

import numpy as np

from mshisto_ray.config import Config, option
from mshisto_ray.training.draws import choose, uniforms
from mshisto_ray.training.tile_index import TileIndex

# Windows per slide that a block has room for, so that some lie far apart.
_WINDOWS = 4
# Most windows drawn per slide; after them a block may stay smaller than configured.
_MOST_WINDOWS = 64


class BlockConfig(Config):
    """How much is held in memory, and how often it is used."""

    tiles: int = option(4096, "approximate number in memory", "tiles", ge=2)
    slides: int = option(16, "slides they come from", "slides", ge=1)
    window_um: float = option(
        1000.0, "side of a window; smaller if four per slide do not fit", "um", gt=0
    )
    reuse: float = option(4.0, "average number of times that a tile is used", gt=0)

    def num_steps(self, batch_size: int, held: int) -> int:
        """The number of steps for which a block of ``held`` tiles is used."""
        return max(1, round(self.reuse * held / batch_size))


def plan_block(
    index: TileIndex, config: BlockConfig, seed: int, number: int
) -> np.ndarray:
    """The tiles of a block, sorted; all tiles if they fit into one block.

    Slides are taken from each class in turn, so that a block holds as many classes as
    slides, if there are so many.
    """
    if len(index) <= config.tiles:
        return np.arange(len(index))
    slides = _slides(index, config.slides, seed, number)
    uniform = uniforms(seed, "windows", number, _MOST_WINDOWS * len(slides), 2)
    kept = np.zeros(0, np.int64)
    for window, (which, where) in enumerate(uniform):
        tiles = _window(index, slides[window % len(slides)], config, which, where)
        kept = np.union1d(kept, tiles)
        # At least two windows per slide, or far pairs and classes would be missing.
        if len(kept) >= config.tiles and window + 1 >= 2 * len(slides):
            break
    return kept


def _slides(index: TileIndex, num: int, seed: int, number: int) -> np.ndarray:
    sizes = index.sizes().reshape(-1, len(index.scales)).sum(axis=1)
    uniform = uniforms(seed, "blocks", number, len(sizes), 1)[:, 0]
    held = np.flatnonzero(sizes)
    order = held[np.lexsort((uniform[held], index.label[held]))]
    label = index.label[order]
    # Rank within the class first: the first of every class, then the second...
    rank = np.arange(len(order)) - np.searchsorted(label, label)
    return order[np.lexsort((uniform[order], rank))][:num]


def _window(
    index: TileIndex, slide: int, config: BlockConfig, which: float, where: float
) -> np.ndarray:
    """Tiles of all scales in a window of whole coarsest tiles around a drawn one."""
    scales = len(index.scales)
    layers = slide * scales + np.arange(scales)
    layer = layers[index.sizes()[layers] > 0][-1]
    size = index.sizes()[layer]
    place = choose(np.array([which]), np.array([size]))[0]
    tile = np.array([index.starts[layer] + place])
    folds = [round(scale / index.scales[0]) for scale in index.scales]
    top = folds[layer % scales]
    cell_tiles = sum((top // fold) ** 2 for fold in folds[: layer % scales + 1])
    room = config.tiles / (_WINDOWS * config.slides) / cell_tiles
    wanted = config.window_um / float(index.pitch_um.reshape(-1)[layer])
    span = max(1, min(round(wanted), int(np.sqrt(room))))
    # ``where`` shifts the window, so that its tile is not always in the middle.
    shift = int(where * span)
    row, col = index.row(tile)[0] - shift, index.col(tile)[0] - shift
    found = []
    for scale in range(layer % scales + 1):
        k = top // folds[scale]
        rows = np.arange(row * k, (row + span) * k)
        first, last = col * k, (col + span) * k - 1
        start, stop = index.run(layers[scale], rows, first, last)
        found += [np.arange(a, b) for a, b in zip(start, stop, strict=True)]
    return np.concatenate(found)
