"""``embed --check``: what embedding a tiles directory will take."""

from __future__ import annotations

import math

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.embedding.colour import Look
from mshisto_ray.embedding.probe import read_sample, time_product
from mshisto_ray.embedding.product import Vectors
from mshisto_ray.embedding.worker import ENCODERS, STAINS
from mshisto_ray.jobs._embed_config import EmbedConfig
from mshisto_ray.jobs._estimate import (
    duration,
    hint,
    milliseconds,
    note,
    size,
    workers_here,
)
from mshisto_ray.store.tiles import TileDirectory

_PROBED_SLIDES = 4
_READ_TILES = 32
# A batch of the config may take minutes on a core; time is nearly proportional.
_CPU_BATCH = 8
_PROBE_LIMIT_S = 300.0
# Place and tissue of a row; compressed, less.
_ROW_BYTES = 60


def print_estimate(config: EmbedConfig, tiles: TileDirectory) -> int:
    """Print tiles, GB and hours; 2 if none of the tiles tried can be read, else 0."""
    counts = _counts(tiles)
    num = sum(counts.values())
    note()
    scales = ", ".join(f"{n:,} at {mpp:g}" for mpp, n in sorted(counts.items()))
    note(f"tiles: {num:,} of {len(tiles.slides)} slides: {scales} um/px")
    samples, problems = read_sample(tiles, _PROBED_SLIDES, _READ_TILES, _PROBE_LIMIT_S)
    for problem in problems:
        note(problem)
    if not samples:
        note("no estimate: no tile could be read")
        return 2 if tiles.slides else 0
    pixels = np.concatenate([sample.pixels for sample in samples])
    read_s = sum(sample.seconds for sample in samples) / len(samples)
    note(f"reading: {milliseconds(read_s)} a tile ({len(pixels)} tiles of "
         f"{len(samples)} slides timed)")  # fmt: skip
    encode_s = sum(_encoder(config, one, pixels, num) for one in _parts(config))
    _print_time(config, num, read_s, encode_s)
    return 0


def _counts(tiles: TileDirectory) -> dict[float, int]:
    counts: dict[float, int] = {}
    for record in tiles.slides.values():
        for mpp, num in record["tiles_per_scale"]:
            counts[mpp] = counts.get(mpp, 0) + num
    return counts


def _parts(config: EmbedConfig) -> list[Part]:
    return [one.encoder for one in config.alone() if one.encoder is not None]


def _encoder(config: EmbedConfig, part: Part, pixels: np.ndarray, num: int) -> float:
    """Print an encoder's width and size on disk; the seconds that it takes a tile."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = "float32" if config.precision == "auto" else config.precision
    encoder = components.build(ENCODERS, part, device, precision)
    look = Look(config.colour, components.build(STAINS, config.stain))
    product = Vectors(encoder, np.dtype(config.dtype), look)
    batch = config.batch_size if device == "cuda" else _CPU_BATCH
    batch = min(batch, config.batch_size)
    repeated = np.resize(pixels, (batch, *pixels.shape[1:]))
    seconds = _with_threads(_threads(config), product, repeated)
    row = math.prod(product.shape) * product.dtype.itemsize + _ROW_BYTES
    name = part.parameters.get("model") or part.name
    note(
        f"{name}: {encoder.dim} values a tile, {milliseconds(seconds)} a tile on "
        f"{device} (one batch of {batch} timed); at most {size(num * row)} of "
        "embeddings"
    )
    return seconds


def _threads(config: EmbedConfig) -> int:
    """Threads of a worker, as ``ActorPlan.threads`` on this machine."""
    return max(1, math.floor(config.runtime.cpus or 1))


def _with_threads(threads: int, product: Vectors, pixels: np.ndarray) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return time_product(product, pixels)
    finally:
        torch.set_num_threads(before)


def _print_time(config: EmbedConfig, num: int, read_s: float, encode_s: float) -> None:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    workers = config.runtime.actors or gpus or workers_here(config.runtime)
    total = num * (read_s + encode_s)
    kind = "GPU workers" if gpus else "workers"
    note(
        f"embedding: {duration(total / workers)} with {workers} {kind} "
        f"({duration(total)} with one), start-up apart{hint(config.runtime)}; chunks "
        "that are done already are not subtracted"
    )
    note(
        "rests on: the tiles planned, exactly; reading and encoding timed here, one "
        "after the other; another machine, its storage or its GPUs differ"
    )
