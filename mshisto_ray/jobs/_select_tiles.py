"""The tiles that ``select_backbone`` compares encoders on, by each of them."""

from __future__ import annotations

import numpy as np

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.backbone.engine import own_engine
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.embedding.worker import ENCODERS
from mshisto_ray.encoders import Encoder
from mshisto_ray.jobs._select_config import SelectConfig
from mshisto_ray.jobs._select_tables import with_sites
from mshisto_ray.tile_classification.head.config import TileHeadConfig
from mshisto_ray.tile_classification.head.samples import TileSamples, read_samples
from mshisto_ray.tile_classification.image_table import Images
from mshisto_ray.tile_classification.images import embed_images

FLOORS = {
    "floor: colour": {"name": "colour_stats"},
    "floor: random": {"name": "timm", "model": "resnet18", "weights": "random"},
}


# Tiles with their embeddings, images a second (NaN: made before), and what ran.
Embedded = tuple[TileSamples, float, str]


def encoders(config: SelectConfig) -> dict[str, Part]:
    """Those of the config, and the floors."""
    floors = FLOORS if config.floors else {}
    known = {
        name: components.check(ENCODERS, Part.model_validate(raw))
        for name, raw in floors.items()
    }
    return {**config.encoders, **known}


def build(part: Part, precision: Precision) -> Encoder:
    """The encoder of a part, on this processor."""
    return components.build(ENCODERS, part, "cpu", precision)


def of_images(config: SelectConfig, images: Images) -> dict[str, Embedded]:
    """The images by each encoder."""
    found = {}
    for name, part in encoders(config).items():
        encoder = build(part, config.precision)
        engine = own_engine(encoder)
        shown = f"{engine} {config.precision}" if engine else "none"
        found[name] = *embed_images(images, encoder, name), shown
        print(
            f"select_backbone: {name}: {len(images.paths)} images of {images.side} px, "
            f"{found[name][1]:.1f} a second",
            flush=True,
        )
    return found


def embedded(config: SelectConfig) -> dict[str, Embedded]:
    """The labelled tiles of each embeddings directory.

    Raises:
        InputError: their tiles differ.
    """
    found: dict[str, Embedded] = {}
    first: TileSamples | None = None
    for name, path in config.embeddings.items():
        raw = {
            "embeddings": path,
            "scale": config.scale,
            "colour": config.colours.get(name),
            "cohort": config.cohort,
            "columns": config.columns,
            "tiles": config.tiles,
            "target": config.target,
            "split": config.split,
            "patience": None,
            "runtime": config.runtime,
        }
        try:
            samples = read_samples(configs.validate(TileHeadConfig, raw))
        except InputError as error:
            raise InputError(f"embeddings.{name}: {error}") from None
        samples = with_sites(config, samples)
        first = first or samples
        if not _same_tiles(first, samples):
            raise InputError(
                f"embeddings.{name}: {path} has {len(samples):,} labelled tiles that "
                f"are not those of the first, {len(first):,}: embed the same tiles"
            )
        found[name] = samples, float("nan"), ""
    return found


def _same_tiles(one: TileSamples, other: TileSamples) -> bool:
    same_slides = list(one.features.slide_ids) == list(other.features.slide_ids)
    names = ("slide", "place", "target", "group")
    return same_slides and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )
