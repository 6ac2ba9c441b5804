"""Embedding in plain processes, chunk after chunk: the baseline for Ray."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.backbone.engine import Engine, Pair, on_engine
from mshisto_ray.components import Part
from mshisto_ray.slides import (
    open_slide,
)
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.cell import CellReader
from mshisto_ray.tiling.record import readings_of

BATCH = 64


@dataclass(frozen=True)
class Ended:
    """A unit that a worker has finished; ``cpu_s`` of its process until then."""

    worker: str
    tiles: int
    cpu_s: float
    at_s: float


def plain(
    tiles: Path,
    out: Path,
    encoder: dict[str, Any],
    engine: Engine,
    actors: int,
    chunks: range,
) -> list[Ended]:
    """Embed in ``actors`` plain processes, each with its share of the chunks."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(actors, mp_context=context) as pool:
        shares = [chunks[start::actors] for start in range(actors)]
        found = [
            pool.submit(_plain_loop, tiles, out, encoder, engine, share)
            for share in shares
        ]
        return [end for future in found for end in future.result()]


def _plain_loop(
    directory: Path,
    out: Path,
    encoder: dict[str, Any],
    engine: Engine,
    chunks: range,
) -> list[Ended]:
    """Read, embed and save one chunk after the other."""
    torch.set_num_threads(1)
    tiles = TileDirectory(directory)
    embedder = on_engine(
        components.build("mshisto_ray.encoders", Part(**encoder), "cpu", "float32"),
        Pair(engine, "float32"),
        "cpu",
        out / f"plain_{chunks.start}",
        tiles.manifest.recipe["tile_px"],
    )
    (record,) = tiles.slides.values()
    slide = open_slide(Path(record["path"]), record["reader"])
    readings = readings_of(record)
    read = CellReader(slide, readings, tiles.manifest.recipe["tile_px"])
    ended = []
    for chunk in chunks:
        table = tiles.read_chunk(record["slide_id"], chunk)
        mpp, x, y = (table[name].to_numpy() for name in ("mpp", "x", "y"))
        vectors = []
        for scale, reading in readings.items():
            rows = np.flatnonzero(mpp == scale)
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                pixels = np.stack([read(reading, int(x[i]), int(y[i])) for i in batch])
                vectors.append(embedder(pixels).astype(np.float16))
        np.save(out / f"plain_{chunk}.npy", np.concatenate(vectors))
        now = (time.process_time(), time.perf_counter())
        ended.append(Ended(str(chunks.start), table.num_rows, *now))
    return ended
