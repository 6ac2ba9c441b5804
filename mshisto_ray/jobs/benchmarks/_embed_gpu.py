"""Large networks on a GPU: through Ray's workers, and alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.jobs.benchmarks._benchmark import Measure
from mshisto_ray.jobs.benchmarks._embed_through_ray import (
    cpu_ms,
    fresh,
    rate,
    through_ray,
    tile_slides,
)
from mshisto_ray.jobs.benchmarks._slides import make_repeated

ENCODERS: dict[str, dict[str, Any]] = {
    "vit_l": {"name": "timm", "model": "vit_large_patch16_224", "fit": "resize"},
    "resnet50": {"name": "timm", "model": "resnet50"},
}
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_SIDE, _TILE_PX, _BATCHES = 18_432, 256, 20


def check_gpu() -> None:
    """Raise InputError where torch sees no GPU."""
    if not torch.cuda.is_available():
        raise InputError(
            "benchmark.cases: gpu: torch sees no GPU here: run it on a machine that "
            "has one, with the torch that is built for it"
        )


def gpu(
    folder: Path,
    actors: int,
    given: Path | None,
    mpp: float | None,
    encoders: Mapping[str, dict[str, Any]] = ENCODERS,
    precisions: Sequence[Precision] = PRECISIONS,
    device: str = "cuda",
    chunk_tiles: int = 256,
    batch: int = 256,
) -> dict[str, Measure]:
    """Each encoder and precision, compiled and not: tiles a second and CPU time.

    ``alone``: from bytes in the CPU's memory to vectors there, neither read nor
    decoded. Where that is far above ``through_ray``, reading bounds the worker.

    Args:
        folder: for tiles and embeddings.
        actors: GPU workers, a GPU each.
        given: a slide; None: one is made.
        mpp: of that slide.
        encoders: by name, with random weights.
        precisions: of the forward pass.
        device: ``cpu`` runs the same without a GPU.
        chunk_tiles: finest tiles a chunk.
        batch: tiles of a forward pass.
    """
    out = fresh(folder / "embed_gpu")
    slides = [given or make_repeated(folder, _SIDE)]
    tiles = tile_slides(slides, out, mpp, chunk_tiles=chunk_tiles)
    on_gpu = device != "cpu"
    found: dict[str, Measure] = {}
    for (name, raw), precision, compiled in itertools.product(
        encoders.items(), precisions, (False, True)
    ):
        encoder = raw | {"weights": "random"}
        changes = {
            "engine": "torch", "precision": precision, "compile": compiled,
            "batch_size": batch,
            "runtime": {"actors": actors, "gpus": int(on_gpu)},
        }  # fmt: skip
        way = f"{precision}{'_compiled' if compiled else ''}"
        ended = through_ray(tiles, out / name / way, encoder, actors, changes)
        alone = _alone(encoder, device, precision, compiled, batch)
        key = f"embed.gpu.{name}.{way}"
        found[f"{key}.alone"] = Measure(alone, "tiles/s")
        found[f"{key}.through_ray"] = Measure(rate(ended, actors), "tiles/s", alone)
        found[f"{key}.worker_cpu"] = Measure(cpu_ms(ended), "CPU ms/tile")
    return found


def _alone(
    encoder: dict[str, Any],
    device: str,
    precision: Precision,
    compiled: bool,
    batch: int,
) -> float:
    """Tiles a second of the encoder itself, in this process."""
    part = Part.model_validate(encoder)
    built = components.build("mshisto_ray.encoders", part, device, precision)
    if compiled:
        built.compile()
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (batch, _TILE_PX, _TILE_PX, 3), dtype=np.uint8)
    built(tiles)  # the first is slower, and compiles
    started = time.perf_counter()
    for _ in range(_BATCHES):
        built(tiles)  # returns vectors in the CPU's memory
    return batch * _BATCHES / (time.perf_counter() - started)
