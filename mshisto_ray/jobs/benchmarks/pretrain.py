"""Pretraining from slides: its bottleneck by worker count, the needs of more GPUs."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mshisto_ray.config import InputPath, validate
from mshisto_ray.contrastive.config import load_index
from mshisto_ray.jobs import pretrain, tile
from mshisto_ray.jobs.benchmarks._benchmark import Benchmark, Measure
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_cohort
from mshisto_ray.training.blocks import BlockConfig, plan_block
from mshisto_ray.training.clock import PHASES, bytes_sent
from mshisto_ray.training.curve import METRICS, read_curve
from mshisto_ray.training.model import build_model, num_parameters
from mshisto_ray.training.reading import IndexedTileReader

_MOST_WAITING = 0.1
_GPUS = (1, 8, 64)
_TILES_READ = 400
# Batches that a block has room for: several blocks are read while steps are timed.
_BLOCK_BATCHES = 2
Workers = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Needs:
    """Resources that training GPUs need.

    ``read_mb_per_s`` from storage, ``read_cores`` that decode, ``copy_mb_per_s`` to
    each GPU.
    """

    read_mb_per_s: float
    read_cores: float
    copy_mb_per_s: float


def needs(
    gpus: int,
    images_per_s: float,
    reuse: float,
    tile_px: int,
    bytes_per_tile: float,
    cpu_s_per_tile: float,
) -> Needs:
    """Storage, cores and copies for ``gpus`` that train ``images_per_s`` each.

    A tile is read once for ``reuse`` uses, so gpus * images_per_s / reuse tiles are
    read a second, of ``bytes_per_tile`` in their slides and ``cpu_s_per_tile`` each;
    3 * tile_px ** 2 bytes an image go to the GPU, where it is augmented.
    """
    tiles_per_s = gpus * images_per_s / reuse
    copied = images_per_s * 3 * tile_px**2
    return Needs(
        tiles_per_s * bytes_per_tile / 1e6, tiles_per_s * cpu_s_per_tile, copied / 1e6
    )


def build(
    *,
    tiles: InputPath | None = None,
    backbone: str = "resnet18",
    tile_px: Annotated[int, Field(ge=32)] = 224,
    batch_size: Annotated[int, Field(ge=4)] = 32,
    steps: Annotated[int, Field(ge=1)] = 24,
    workers: Annotated[tuple[Workers, ...], Field(min_length=1)] = (1, 2),
    gpu_images_per_s: Annotated[float, Field(gt=0)] = 4500.0,
) -> Benchmark:
    """Share of a step in each phase, images per second, bytes sent, needs of GPUs.

    Args:
        tiles: a tiles directory; phantom slides are made and tiled without one.
        backbone: timm's name.
        tile_px: of the tiles that are made.
        batch_size: images of all workers.
        steps: timed, after as many that are not; enough for several blocks, or the
            share of waiting contains no reading of slides.
        workers: worker counts to compare.
        gpu_images_per_s: training rate of one GPU in the table of needs.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        made = tiles or _make_tiles(folder, tile_px)
        found: dict[str, Measure] = {}
        runs = [
            _config(made, folder / f"pretrain_{num}", backbone, batch_size, steps, num)
            for num in workers
        ]
        for config in runs:
            shutil.rmtree(config.out, ignore_errors=True)
            pretrain.run(config)
            found |= _run_measures(config, config.workers)
        read = Measure(_blocks_read(runs[0], steps), "blocks in the timed steps")
        found["pretrain.blocks"] = read
        return found | _needs_measures(runs[0], gpu_images_per_s)

    return measure


def _config(
    tiles: Path, out: Path, backbone: str, batch_size: int, steps: int, workers: int
) -> pretrain.PretrainJobConfig:
    blocks = BlockConfig(tiles=_BLOCK_BATCHES * batch_size)
    # The last block's steps are not timed: a long run, too, reads ahead of its steps.
    rest = blocks.num_steps(batch_size, blocks.tiles)
    given = {
        "tiles": tiles,
        "out": out,
        "pairs": {"name": "same_tile"},
        "model": {"backbone": backbone},
        "batch_size": batch_size,
        "blocks": blocks.model_dump(),
        "steps": 2 * steps + rest,
        "validation": {"share": 0, "every": steps},
        "workers": workers,
    }
    return validate(pretrain.PretrainJobConfig, given)


def _make_tiles(folder: Path, tile_px: int) -> Path:
    out = folder / f"tiles_{tile_px}"
    if not out.exists():
        drawn = PhantomConfig(num_patients=4, slides_per_patient=1, size=4096)
        cohort = write_cohort(drawn, folder / "slides")
        given = {"cohort": cohort, "out": out, "tile_px": tile_px, "scales": [0.5]}
        tile.run(validate(tile.TileConfig, given))
    return out


def _run_measures(config: pretrain.PretrainJobConfig, num: int) -> dict[str, Measure]:
    """Measures of the steps in the middle: the first ones warm up."""
    steps = config.validation.every
    curve = read_curve(config.out / METRICS)
    timed = next(record for record in curve if record["step"] == 2 * steps)
    name = f"pretrain.{num}_workers"
    found = {f"{name}.images": Measure(timed["images_per_s"], "images/s")}
    for phase in PHASES:
        target = _MOST_WAITING if phase == "data" else None
        found[f"{name}.{phase}"] = Measure(
            timed[f"{phase}_share"], "of a step", None, target, "at most"
        )
    tile_px = int(load_index(config)[0].manifest.recipe["tile_px"])
    model = build_model(config.model, tile_px, config.seed)
    sent = bytes_sent(
        num_parameters([model]),
        config.batch_size,
        config.model.projection.dim,
        num,
        sum(buffer.numel() for buffer in model.buffers()),
    )
    return found | {f"{name}.sent": Measure(sent / 1e6, "MB/step a worker")}


def _blocks_read(config: pretrain.PretrainJobConfig, steps: int) -> int:
    """Number of blocks that start within the timed steps, ``steps`` to twice that."""
    _, index = load_index(config)
    number = first = read = 0
    while first < 2 * steps:
        read += first >= steps
        held = len(plan_block(index, config.blocks, config.seed, number))
        first += config.blocks.num_steps(config.batch_size, held)
        number += 1
    return read


def _needs_measures(
    config: pretrain.PretrainJobConfig, images_per_s: float
) -> dict[str, Measure]:
    directory, index = load_index(config)
    chosen = np.unique(np.linspace(0, len(index) - 1, _TILES_READ).astype(int))
    reader = IndexedTileReader(directory, index, 1)
    began = time.process_time()
    reader(chosen)
    each = (time.process_time() - began) / len(chosen)
    paths = {Path(record["path"]) for record in directory.slides.values()}
    stored = sum(path.stat().st_size for path in paths) / len(index)
    tile_px = int(directory.manifest.recipe["tile_px"])
    found = {
        "pretrain.read": Measure(1e3 * each, "CPU ms/tile"),
        "pretrain.stored": Measure(stored / 1e3, "kB of slide a tile, at most"),
    }
    for gpus in _GPUS:
        need = needs(gpus, images_per_s, config.blocks.reuse, tile_px, stored, each)
        name = f"pretrain.{gpus}_gpus"
        found[f"{name}.storage"] = Measure(need.read_mb_per_s, "MB/s")
        found[f"{name}.reading"] = Measure(need.read_cores, "cores")
        found[f"{name}.copy"] = Measure(need.copy_mb_per_s, "MB/s to each")
    return found
