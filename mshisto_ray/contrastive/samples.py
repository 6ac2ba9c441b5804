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
    """Read the first ``num`` pairs of the first step from their slides.

    Args:
        config: of the training.
        tiles: of ``load_index``.
        index: likewise.
        num: pairs; a batch may have fewer.
    """
    num = min(num, config.batch_size // 2)
    own = index.subset(split_patients(index, config.validation.share, config.seed)[0])
    chosen = plan_block(own, config.blocks, config.seed, 0)
    part = own.subset(chosen)
    source = components.build(PAIRS, config.pairs, part)
    drawn = source.draw(config.seed, 0, np.arange(num))
    positive, negative = source.relations(drawn, np.arange(num))
    read = IndexedTileReader(tiles, own, config.runtime.readers)
    held = read(chosen[np.unique(drawn)])
    pixels = held.pixels[held.places(chosen[drawn.reshape(-1)])]
    parameters = draw_parameters(config.augment, config.seed, 0, 2 * num)
    images = augment(torch.from_numpy(pixels), config.augment, parameters)
    seen = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    slide, scale = part.slide(drawn.reshape(-1)), part.scale(drawn.reshape(-1))
    centre = part.centre_um(drawn.reshape(-1))
    found = []
    for a in range(0, 2 * num, 2):
        b = a + 1
        near = slide[a] == slide[b]
        kind = "alike" if positive[a, b] else "unlike" if negative[a, b] else "neither"
        found.append(
            SamplePair(
                pixels[a : a + 2],
                seen[a : a + 2],
                (part.scales[scale[a]], part.scales[scale[b]]),
                float(np.linalg.norm(centre[a] - centre[b])) if near else None,
                kind,
            )
        )
    return found
