"""What augmentation of tiles does to their embeddings, for noise of that shape."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.embedding.worker import ENCODERS
from mshisto_ray.encoders import Encoder, check_takes
from mshisto_ray.representation.differences import write_differences
from mshisto_ray.runtime import Readers
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.augment import AugmentConfig, augment, draw_parameters
from mshisto_ray.training.reading import IndexedTileReader, check_slides
from mshisto_ray.training.tile_index import TileIndex, read_index

_AT_ONCE = 32


class AugmentationConfig(Config):
    """Embed tiles and augmented copies of them, and keep the differences."""

    tiles: InputPath = option(text="tiles directory")
    encoder: Annotated[Part, Family(ENCODERS)] = option(
        text="that embedded the tiles whose heads are to be trained"
    )
    out: OutputPath = option(text="file of differences, for noise.path")
    scale: float | None = option(
        None, "of the tiles; null: the finest", unit="um/px", gt=0
    )
    num: int = option(400, "tiles, spread evenly over slides", "tiles", ge=2)
    copies: int = option(4, "augmented copies of each tile", ge=1)
    augment: AugmentConfig = option(AugmentConfig(hed=0.05), "as in training")
    precision: Precision = option("float32", "of the encoder")
    seed: int = option(0, "of the tiles and the augmentation", ge=0)
    runtime: Readers = Readers()


def check(config: AugmentationConfig) -> None:
    """Check tiles, slides, the scale and the encoder."""
    tiles, _ = _open(config)
    check_slides(tiles)
    encoder = components.build(ENCODERS, config.encoder, "cpu", config.precision)
    check_takes(encoder, tiles.manifest.recipe["tile_px"])


def run(config: AugmentationConfig) -> None:
    """Embed tiles and augmented copies of them, and keep the differences."""
    tiles, index = _open(config)
    chosen = _spread(index, config.num, config.seed)
    held = IndexedTileReader(tiles, index, config.runtime.readers)(chosen)
    pixels, chosen = held.pixels[held.readable], chosen[held.readable]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = components.build(ENCODERS, config.encoder, device, config.precision)
    plain = _embed(encoder, pixels)
    found = []
    for copy in range(config.copies):
        seed = config.seed * config.copies + copy
        drawn = draw_parameters(config.augment, seed, 0, len(pixels))
        changed = augment(torch.from_numpy(pixels), config.augment, drawn)
        bytes_ = changed.mul_(255).round_().to(torch.uint8).permute(0, 2, 3, 1)
        found.append(_embed(encoder, bytes_.contiguous().numpy()) - plain)
    values = np.concatenate(found)
    slides = np.array(index.slide_ids, object)[index.slide(chosen)]
    config.out.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "encoder": {"name": config.encoder.name, "digest": encoder.digest},
        "mpp": index.scales[0],
        "config": config.model_dump(mode="json", exclude={"runtime"}),
    }
    write_differences(config.out, values, np.tile(slides, config.copies), about)
    spread = plain.std(0)
    kept = spread > 0
    size = np.sqrt(((values[:, kept] / spread[kept]) ** 2).mean())
    print(
        f"augmentation: {len(values):,} differences of {values.shape[1]} features, "
        f"{len(set(slides))} slides; as noise the augmentation itself is of "
        f"sigma {size:.3f}"
    )
    print(f"augmentation: {config.out}", flush=True)


def _open(config: AugmentationConfig) -> tuple[TileDirectory, TileIndex]:
    tiles = TileDirectory(config.tiles)
    scale = tiles.choose_scale(config.scale)
    index = read_index(tiles, list(tiles.slides), {}, (scale,))
    if len(index) < 2:
        raise InputError(f"scale: fewer than two tiles at {scale:g} um/px")
    return tiles, index


def _spread(index: TileIndex, num: int, seed: int) -> np.ndarray:
    """About ``num`` tiles, sorted, as many of each slide where it has them."""
    generator = np.random.default_rng(seed)
    slide = index.slide(np.arange(len(index)))
    order = np.lexsort((generator.random(len(index)), slide))
    _, starts, sizes = np.unique(slide[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    return np.sort(order[rank < max(2, -(-num // len(starts)))])


def _embed(encoder: Encoder, pixels: np.ndarray) -> np.ndarray:
    starts = range(0, len(pixels), _AT_ONCE)
    return np.concatenate([encoder(pixels[i : i + _AT_ONCE]) for i in starts])
