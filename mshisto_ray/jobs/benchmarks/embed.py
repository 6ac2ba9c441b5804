"""Embedding through Ray: its cost against a plain loop, its split, its memory."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from mshisto_ray import config as configs
from mshisto_ray.backbone.engine import Engine
from mshisto_ray.config import InputError, InputPath
from mshisto_ray.jobs import embed, tile
from mshisto_ray.jobs.benchmarks._benchmark import Benchmark, Measure
from mshisto_ray.jobs.benchmarks._embed_engines import engines
from mshisto_ray.jobs.benchmarks._embed_gpu import check_gpu, gpu
from mshisto_ray.jobs.benchmarks._embed_plain import plain
from mshisto_ray.jobs.benchmarks._embed_through_ray import (
    cpu_ms,
    embed_settings,
    fresh,
    rate,
    through_ray,
    tile_settings,
    tile_slides,
)
from mshisto_ray.jobs.benchmarks._memory import PeakMemory
from mshisto_ray.jobs.benchmarks._slides import make_repeated
from mshisto_ray.store.tiles import TileDirectory

_COST_SIDE, _COST_CHUNK, _GIVEN_CHUNK = 18_432, 256, 64
_HUGE_SIDE, _SMALL_SIDE, _NUM_SMALL = 20_480, 3_072, 20
_MEMORY_SIDES = (20_480, 40_960)
_FLOOR = {"name": "colour_stats"}

Case = Literal["engines", "cost", "split", "memory", "gpu"]


def build(
    *,
    cases: tuple[Case, ...] = ("engines", "cost", "split", "memory"),
    encoders: dict[str, dict[str, Any]] | None = None,
    model: str = "mobilenetv2_100",
    engine: Engine = "torch",
    actors: Annotated[int, Field(ge=1)] = 2,
    slide: InputPath | None = None,
    mpp: Annotated[float | None, Field(gt=0)] = None,
    chunk_tiles: Annotated[int | None, Field(ge=1)] = None,
) -> Benchmark:
    """Tiles of 256 px at 0.5, 1 and 2 um/px, of slides made to be all tissue.

    Args:
        cases: ``engines``: engines and precisions side by side, on 128 tiles with most
            tissue, and what float16 storage changes.
            ``cost``: CPU time per tile against as many plain processes, start-up apart.
            ``split``: shares of the workers over one huge and twenty small
            slides. ``memory``: peak of driver and workers for a slide four times as
            large. ``gpu``: ViT-L/16 and resnet50 on a GPU, compiled and not, through
            Ray and alone.
        encoders: for ``engines``, by name; null: three networks with random weights.
        model: timm's name of the network for ``cost``, with random weights.
        engine: that runs it in float32, through Ray and in the plain processes.
        actors: Ray workers, and plain processes.
        slide: take this slide for ``engines`` and ``cost`` instead of the one made.
        mpp: of that slide, if its file does not give it.
        chunk_tiles: finest tiles a chunk for ``cost`` (of a job 1024 by default); null:
            256, of a slide given 64, so that small ones have enough chunks.
    """
    size = chunk_tiles or (_GIVEN_CHUNK if slide else _COST_CHUNK)
    measures = {
        "engines": partial(engines, encoders=encoders, given=slide, mpp=mpp),
        "cost": partial(
            _cost, model=model, engine=engine, given=slide, mpp=mpp, chunk_tiles=size
        ),
        "split": _split,
        "memory": _memory,
        "gpu": partial(gpu, given=slide, mpp=mpp),
    }

    def measure(folder: Path) -> dict[str, Measure]:
        if "gpu" in cases:
            check_gpu()
        found: dict[str, Measure] = {}
        for case in cases:
            found |= measures[case](folder, actors)
        return found

    return measure


def _cost(
    folder: Path,
    actors: int,
    model: str,
    engine: Engine,
    given: Path | None,
    mpp: float | None,
    chunk_tiles: int,
) -> dict[str, Measure]:
    out = fresh(folder / "embed_cost")
    slides = [given or make_repeated(folder, _COST_SIDE)]
    tiles = tile_slides(slides, out, mpp, chunk_tiles=chunk_tiles)
    encoder = {"name": "timm", "model": model, "weights": "random"}
    chunks = _chunks(tiles, slides[0], actors)
    # Half of the plain loop before and half after: the machine's pace drifts.
    half = len(chunks) // 2
    with PeakMemory() as plain_memory:
        plainly = plain(tiles, out, encoder, engine, actors, chunks[:half])
    started = time.perf_counter()
    with PeakMemory() as memory:
        changes = {"engine": engine, "precision": "float32"} if engine else None
        ours = through_ray(tiles, out / "embeddings", encoder, actors, changes)
    plainly += plain(tiles, out, encoder, engine, actors, chunks[half:])
    first = min(end.at_s for end in ours) - started
    pace = rate(ours, actors)
    value, base = cpu_ms(ours), cpu_ms(plainly)
    return {
        "embed.tiles": Measure(sum(end.tiles for end in ours), "tiles"),
        "embed.worker_cpu": Measure(value, "CPU ms/tile", base),
        "embed.worker_cpu.ratio": Measure(value / base, "x", None, 1.1, "at most"),
        "embed.throughput": Measure(pace, "tiles/s", rate(plainly, actors)),
        "embed.first_chunk_after": Measure(first, "s"),
        "embed.peak_memory": Measure(memory.mib, "MiB", plain_memory.mib),
    }


def _chunks(tiles: Path, slide: Path, actors: int) -> range:
    """Chunks of the one slide tiled; each plain process needs two in either half."""
    (record,) = TileDirectory(tiles).slides.values()
    if record["num_chunks"] < 4 * actors:
        raise InputError(
            f"benchmark.slide: {slide} has tissue for {record['num_chunks']} chunks of "
            f"work; {actors} actors need {4 * actors}: take a larger slide, or fewer "
            "actors"
        )
    return range(record["num_chunks"])


def _split(folder: Path, actors: int) -> dict[str, Measure]:
    out = fresh(folder / "embed_split")
    # Copies: a cohort that lists one file under several ids is refused.
    source = make_repeated(folder, _SMALL_SIDE)
    small = [out / f"{source.stem}_{i}{source.suffix}" for i in range(_NUM_SMALL)]
    for copy in small:
        shutil.copy(source, copy)
    tiles = tile_slides([*small, make_repeated(folder, _HUGE_SIDE)], out)
    ended = through_ray(tiles, out / "embeddings", _FLOOR, actors)
    shares: dict[str, int] = {}
    for end in ended:
        shares[end.worker] = shares.get(end.worker, 0) + end.tiles
    even = sum(shares.values()) / actors
    return {
        "embed.split.most": Measure(max(shares.values()), "tiles", even),
        "embed.split.uneven": Measure(
            max(shares.values()) / even - 1, "of even", None, 0.1, "at most"
        ),
    }


def _memory(folder: Path, actors: int) -> dict[str, Measure]:
    found: dict[str, Measure] = {}
    peaks: dict[int, tuple[float, float]] = {}
    for side in _MEMORY_SIDES:
        out = fresh(folder / f"embed_memory_{side}")
        tiling = tile_settings([make_repeated(folder, side)], out)
        raw = embed_settings(out / "tiles", out / "embeddings", _FLOOR, actors)
        peaks[side] = (_peak_of("tile", tiling), _peak_of("embed", raw))
    small, large = (np.array(peaks[side]) for side in _MEMORY_SIDES)
    for i, job in enumerate(("tile", "embed")):
        name = f"embed.memory.{job}"
        found[name] = Measure(large[i], "MiB", small[i])
        ratio = large[i] / small[i]
        found[f"{name}.ratio"] = Measure(ratio, "x", None, 1.1, "at most")
    return found


def _peak_of(job: str, raw: dict[str, Any]) -> float:
    """Peak MiB of a job in a process, and a Ray session, of its own."""
    process = multiprocessing.get_context("spawn").Process(target=_job, args=(job, raw))
    process.start()
    with PeakMemory(process.pid) as memory:
        process.join()
    if process.exitcode:
        raise RuntimeError(f"the {job} job ended with exit code {process.exitcode}")
    return memory.mib


def _job(job: str, raw: dict[str, Any]) -> None:
    if job == "tile":
        tile.run(configs.validate(tile.TileConfig, raw))
    else:
        embed.run(configs.validate(embed.EmbedConfig, raw))
