"""Embed one chunk in a worker: read its tiles, make and write its shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.backbone.engine import OWN, Pair, on_engine
from mshisto_ray.components import Part
from mshisto_ray.embedding.colour import Colour, Look
from mshisto_ray.embedding.product import Pictures, Product, Vectors
from mshisto_ray.embedding.reading import InTurn, Reading
from mshisto_ray.embedding.unit import Chunk, UnitEmbedder
from mshisto_ray.store.guard import guarded
from mshisto_ray.store.tiles import TileDirectory

ENCODERS = "mshisto_ray.encoders"
STAINS = "mshisto_ray.embedding.stains"
AS_SCANNED = Part(name="none")
# Of an embeddings directory, while it is filled: the graph that an engine runs.
GRAPH = Path("graph") / "network"


def stain_recipe(part: Part) -> dict[str, Any]:
    """What of a stain normalisation changes pixels, with digests in place of files."""
    own = getattr(components.module(STAINS, part.name), "recipe", dict)
    return {"name": part.name, **own(part.parameters)}


@dataclass(frozen=True)
class EmbedWork:
    """Settings of every worker; small and picklable.

    ``encoders``: one or more, by the directory of their embeddings; ``batch_size``:
    tiles per forward pass; ``dtype``: float16 or float32 of the shards; ``stain``: a
    part of the stains; ``colours``: one column of the shards each; ``compiled``: by
    torch; ``pixels``: directory for the tiles as JPEG of a ``quality``, if any;
    ``pairs``: engine and precision of the encoders that do not run on their own engine
    in float32.
    """

    tiles: Path
    encoders: Mapping[Path, Part]
    batch_size: int
    dtype: str
    stain: Part = AS_SCANNED
    colours: tuple[Colour, ...] = ("rgb",)
    compiled: bool = False
    pixels: Path | None = None
    quality: int = 0
    pairs: Mapping[Path, Pair] = field(default_factory=dict)


def make_embedder(
    work: EmbedWork,
    device: str,
    threads: int,
    start_reading: Callable[[], Reading] = InTurn,
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that embeds one chunk, writes its shards and returns its counts."""
    torch.set_num_threads(threads)
    px = TileDirectory(work.tiles).manifest.recipe["tile_px"]
    look = Look(work.colours, components.build(STAINS, work.stain))
    products: dict[Path, Product] = {}
    for out, part in work.encoders.items():
        pair = work.pairs.get(out, OWN)
        encoder = components.build(ENCODERS, part, device, pair.precision)
        encoder = on_engine(encoder, pair, device, out / GRAPH, px)
        if work.compiled:
            encoder.compile()
        products[out] = Vectors(encoder, np.dtype(work.dtype), look)
    if work.pixels:
        products[work.pixels] = Pictures(work.quality)
    embed = UnitEmbedder(work.tiles, products, start_reading(), work.batch_size)
    return guarded(lambda unit: embed(Chunk(**unit)), "embed")
