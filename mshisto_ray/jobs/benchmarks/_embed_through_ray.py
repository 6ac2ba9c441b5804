"""The tile and embed jobs, run through Ray by a benchmark, and what they cost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mshisto_ray import config as configs
from mshisto_ray.jobs import embed, tile
from mshisto_ray.jobs._embed_config import make_targets
from mshisto_ray.jobs._embed_settle import settle, work_of
from mshisto_ray.jobs.benchmarks._embed_plain import BATCH, Ended
from mshisto_ray.store.tiles import TileDirectory


def fresh(out: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    return out


def tile_settings(
    slides: Sequence[Path], out: Path, mpp: float | None = None, **changes: Any
) -> dict[str, Any]:
    """Settings of the tile job for some slides, with changes to its keys."""
    # One patient: the copies of a slide may not be of several.
    lines = [f"{path},{path.stem}_{i},one,{mpp or ''}" for i, path in enumerate(slides)]
    header = "path,slide_id,patient_id,mpp"
    (out / "cohort.csv").write_text("\n".join([header, *lines]) + "\n")
    return {"cohort": out / "cohort.csv", "out": out / "tiles", **changes}


def tile_slides(
    slides: Sequence[Path], out: Path, mpp: float | None = None, **changes: Any
) -> Path:
    """Tile slides; returns the directory."""
    raw = tile_settings(slides, out, mpp, **changes)
    tile.run(configs.validate(tile.TileConfig, raw))
    return raw["out"]


def embed_settings(
    tiles: Path, out: Path, encoder: dict[str, Any], actors: int
) -> dict[str, Any]:
    """Settings of the embed job, on CPUs."""
    runtime = {"actors": actors, "gpus": 0}
    return {"tiles": tiles, "out": out, "encoder": encoder, "batch_size": BATCH,
            "runtime": runtime}  # fmt: skip


def through_ray(
    tiles: Path,
    out: Path,
    encoder: dict[str, Any],
    actors: int,
    changes: Mapping[str, Any] | None = None,
) -> list[Ended]:
    """Embed every tile as the job does; returns units as they end.

    Args:
        tiles: tiles directory.
        out: embeddings directory.
        encoder: its config.
        actors: workers.
        changes: to the job's keys; None: none, and the encoder's own engine.
    """
    raw = embed_settings(tiles, out, encoder, actors) | dict(changes or {})
    config = configs.validate(embed.EmbedConfig, raw)
    directory = TileDirectory(tiles)
    targets = make_targets(config, directory)
    if changes:
        targets = settle(config, targets, work_of(config, targets))
    _, units = embed.plan_units(targets[0], directory)
    rows = embed.embed_units(config, targets, [asdict(unit) for unit in units])
    return [
        Ended(row["worker"], row["tiles"], row["worker_cpu_s"], time.perf_counter())
        for row in rows
    ]


def _steady(ended: Iterable[Ended]) -> list[tuple[Ended, Ended]]:
    """Each unit but a worker's first, after the one before it of the same worker."""
    last: dict[str, Ended] = {}
    pairs = []
    for end in ended:
        if end.worker in last:
            pairs.append((last[end.worker], end))
        last[end.worker] = end
    return pairs


def cpu_ms(ended: Sequence[Ended]) -> float:
    """Median over units of a worker's CPU time per tile, whatever it did in between."""
    costs = [(end.cpu_s - prior.cpu_s) / end.tiles for prior, end in _steady(ended)]
    return 1e3 * float(np.median(costs))


def rate(ended: Sequence[Ended], workers: int) -> float:
    """Tiles per second of the workers, each at the median pace of all units."""
    paces = [end.tiles / (end.at_s - prior.at_s) for prior, end in _steady(ended)]
    return workers * float(np.median(paces))
