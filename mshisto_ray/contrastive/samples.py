"""The first pairs of a training, before and after augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.contrastive.config import PretrainConfig
from mshisto_ray.contrastive.pair_batches import PAIRS
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.augment import augment, draw_parameters
from mshisto_ray.training.blocks import plan_block
from mshisto_ray.training.held_out import split_patients
from mshisto_ray.training.reading import IndexedTileReader
from mshisto_ray.training.tile_index import TileIndex


@dataclass(frozen=True)
class SamplePair:
    """Two tiles that are trained on as a pair.

    ``plain``, ``seen``: uint8 [2, H, W, 3] before and after augmentation; ``mpp`` of
    each; ``apart_um``: distance of their centres, None in different slides; ``kind``:
    their relation in the loss.
    """

    plain: np.ndarray
    seen: np.ndarray
    mpp: tuple[float, float]
    apart_um: float | None
    kind: Literal["alike", "unlike", "neither"]


def sample_pairs(
    config: PretrainConfig, tiles: TileDirectory, index: TileIndex, num: int
) -> list[SamplePair]:
    """Read pairs of the first step from their slides: alike, then unlike ones.

    Where the source draws only pairs that are alike, the unlike ones are of the first
    tiles of two pairs, which the loss has to tell apart.

    Args:
        config: of the training.
        tiles: of ``load_index``.
        index: likewise.
        num: pairs, half of each kind where there are so many.
    """
    whole = config.batch_size // 2
    own = index.subset(split_patients(index, config.validation.share, config.seed)[0])
    chosen = plan_block(own, config.blocks, config.seed, 0)
    part = own.subset(chosen)
    source = components.build(PAIRS, config.pairs, part)
    drawn = source.draw(config.seed, 0, np.arange(whole))
    positive, negative = source.relations(drawn, np.arange(whole))
    flat = drawn.reshape(-1)
    chosen_pairs = _both_kinds(positive, negative, num)
    used = np.unique(chosen_pairs)
    read = IndexedTileReader(tiles, own, config.runtime.readers)
    held = read(chosen[np.unique(flat[used])])
    pixels = held.pixels[held.places(chosen[flat[used]])]
    parameters = draw_parameters(config.augment, config.seed, 0, 2 * whole, "cpu")
    shown = parameters.part(torch.from_numpy(used))
    images = augment(torch.from_numpy(pixels), config.augment, shown)
    seen = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    slide, scale, centre = part.slide(flat), part.scale(flat), part.centre_um(flat)
    found = []
    for a, b in chosen_pairs:
        at = np.searchsorted(used, [a, b])
        near = slide[a] == slide[b]
        kind = "alike" if positive[a, b] else "unlike" if negative[a, b] else "neither"
        found.append(
            SamplePair(
                pixels[at],
                seen[at],
                (part.scales[scale[a]], part.scales[scale[b]]),
                float(np.linalg.norm(centre[a] - centre[b])) if near else None,
                kind,
            )
        )
    return found


def _both_kinds(positive: np.ndarray, negative: np.ndarray, num: int) -> np.ndarray:
    """Images [num, 2] of pairs of a batch [M, M]: those alike, then those unlike.

    Pairs as they are drawn (2 p and 2 p + 1) come first, other pairs of the batch fill
    up.
    """
    first = np.arange(0, len(positive), 2)
    found = []
    for relation in (positive, negative):
        own = first[relation[first, first + 1]]
        pairs = np.stack([own, own + 1], 1)
        if not len(pairs):
            apart = np.argwhere(np.triu(relation, 1))
            _, starts = np.unique(apart[:, 0], return_index=True)
            pairs = apart[starts]
        found.append(pairs)
    alike, unlike = found
    few = min(len(unlike), num // 2)
    alike = alike[: num - few]
    pairs = np.concatenate([alike, unlike[: num - len(alike)]])
    if len(pairs):
        return pairs
    return np.stack([first, first + 1], 1)[:num]
