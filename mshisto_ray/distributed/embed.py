"""Embed the tiles of a cohort: one unit a chunk, read + embed + write in the actor."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import ray
import torch

from mshisto_ray import components, tracking
from mshisto_ray.components import Family, Part
from mshisto_ray.config import (
    Config,
    InputPath,
    OutputPath,
    TooManyFailuresError,
    option,
)
from mshisto_ray.distributed.pipeline import stream
from mshisto_ray.distributed.progress import Progress, check_failures, say
from mshisto_ray.distributed.session import Resources, connect, plan_actors
from mshisto_ray.embedding.colour import Colour
from mshisto_ray.embedding.unit import STAINS, EmbedWork, Unit, UnitEmbedder, unit_key
from mshisto_ray.encoders._encoder import (
    Encoder,
    Precision,
    check_takes,
    resolve_precision,
)
from mshisto_ray.store import schema
from mshisto_ray.store.embeddings import STAGE, shard_path
from mshisto_ray.store.failures import Failure, write_failures
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.store.shards import read_metadata, write_shard
from mshisto_ray.store.tiles import TileDirectory

ENCODERS = "mshisto_ray.encoders"


class EmbedConfig(Config):
    """Embed every planned tile of a tiles directory."""

    tiles: InputPath = option(text="tiles directory that jobs/tile.py made")
    out: OutputPath = option(text="embeddings directory to make or to go on with")
    encoder: Annotated[Part, Family(ENCODERS)] = option(text="what embeds a tile")
    batch_size: int = option(64, "tiles per forward pass", unit="tiles", ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "of the forward pass; auto = bfloat16 where the hardware has it"
    )
    dtype: Literal["float16", "float32"] = option("float16", "of the stored vectors")
    stain: Annotated[Part, Family(STAINS)] = option(
        Part(name="none"), "stain normalisation, before anything else"
    )
    colour: tuple[Colour, ...] = option(
        ("rgb",), "rgb, gray (luma), or both: a column each", min_length=1
    )
    max_failures: float = option(
        0.5, "share of slides that may fail wholly", unit="share", ge=0, le=1
    )
    retry_failures: bool = option(False, "try again what failed because of its input")
    resources: Resources = Resources()
    mlflow: tracking.TrackingConfig = tracking.TrackingConfig()


def check(config: EmbedConfig) -> None:
    """Check the tiles, the encoder and that ``out`` can be entered."""
    tiles = TileDirectory(config.tiles)
    check_stage(config.out, STAGE, _recipe(config, tiles))


def run(config: EmbedConfig) -> None:
    """Embed every planned tile of a tiles directory."""
    tiles = TileDirectory(config.tiles)
    recipe = _recipe(config, tiles)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        _run(config, tiles, recipe["precision"])


def _run(config: EmbedConfig, tiles: TileDirectory, precision: Precision) -> None:
    standing, pending = _plan(config, tiles)
    say(f"embed: {standing} chunks stand, {len(pending)} to do -> {config.out}")
    progress = None
    if pending:
        # Until the end of this run the directory is not finished.
        (config.out / "slides.parquet").unlink(missing_ok=True)
        try:
            progress = _embed(config, tiles, pending, precision)
        except TooManyFailuresError:
            write_failures(config.out, collect(config.out, tiles)[1])
            raise
    slides, failures = collect(config.out, tiles)
    write_failures(config.out, failures)
    table = pa.Table.from_pylist(slides, schema=schema.EMBEDDED_SLIDES)
    write_shard(config.out / "slides.parquet", [table])
    _log(config, tiles, slides, failures, progress)
    failed = sum(not sum(n for _, n in slide["rows_per_scale"]) for slide in slides)
    check_failures(failed, len(slides), config.max_failures)


def _recipe(config: EmbedConfig, tiles: TileDirectory) -> dict[str, Any]:
    """What changes rows; the encoder is built once here, so its mistakes show here."""
    encoder = components.build(ENCODERS, config.encoder, "cpu", "float32")
    check_takes(encoder, tiles.manifest.recipe["tile_px"])
    return {
        "tiles": dict(tiles.manifest.recipe),
        "encoder": {"name": config.encoder.name, "digest": encoder.digest},
        "dim": encoder.dim,
        "precision": _resolve_precision(config),
        "dtype": config.dtype,
        "stain": config.stain.model_dump(mode="json"),
        "colour": list(config.colour),
    }


def _resolve_precision(config: EmbedConfig) -> Precision:
    """Once for the whole run: by the GPU that a worker gets, else by this CPU."""
    without_gpu = not os.environ.get("RAY_ADDRESS") and not torch.cuda.is_available()
    if config.precision != "auto" or config.resources.gpus == 0 or without_gpu:
        return resolve_precision(config.precision, "cpu")
    with connect():
        plan = plan_actors(config.resources, use_gpu=True)
        if not plan.gpus:
            return resolve_precision("auto", "cpu")
        ask = ray.remote(resolve_precision).options(num_cpus=0, num_gpus=plan.gpus)
        return ray.get(ask.remote("auto", "cuda"))


def _plan(config: EmbedConfig, tiles: TileDirectory) -> tuple[int, list[Unit]]:
    """How many chunks stand, and those to do; shards to be redone are removed."""
    units = [
        Unit(slide_id, chunk)
        for slide_id, record in tiles.slides.items()
        for chunk in range(record["num_chunks"])
    ]

    def is_pending(unit: Unit) -> bool:
        path = shard_path(config.out, unit.slide_id, unit.chunk)
        metadata = read_metadata(path)
        if metadata is None:
            return True
        kinds = {failure["kind"] for failure in metadata["failures"]}
        retry = "transient" in kinds or (config.retry_failures and bool(kinds))
        if retry or metadata["key"] != unit_key(tiles.slides[unit.slide_id]):
            path.unlink()
            return True
        return False

    with ThreadPoolExecutor(16) as pool:
        flags = list(pool.map(is_pending, units))
    pending = [unit for unit, flag in zip(units, flags, strict=True) if flag]
    return len(units) - len(pending), pending


def _embed(
    config: EmbedConfig, tiles: TileDirectory, pending: list[Unit], precision: Precision
) -> Progress:
    per_slide: dict[str, int] = {}
    for unit in pending:
        per_slide[unit.slide_id] = per_slide.get(unit.slide_id, 0) + 1
    expected = sum(
        n * per_slide[slide] // tiles.slides[slide]["num_chunks"]
        for slide in per_slide
        for _, n in tiles.slides[slide]["tiles_per_scale"]
    )
    progress = Progress("embed", per_slide, expected, config.max_failures)
    work = EmbedWork(
        config.tiles,
        config.out,
        config.batch_size,
        config.dtype,
        config.stain,
        config.colour,
    )
    units = [{"slide_id": unit.slide_id, "chunk": unit.chunk} for unit in pending]
    with connect():
        plan = plan_actors(config.resources, use_gpu=True)
        device = "cuda" if plan.gpus else "cpu"
        encoder = config.encoder.model_dump()
        arguments = (work, encoder, device, precision, plan.threads)
        for row in stream(units, make_embedder, arguments, plan):
            progress.add(row)
    return progress


def make_embedder(
    work: EmbedWork,
    encoder: dict[str, Any],
    device: str,
    precision: Precision,
    threads: int,
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that embeds one chunk; its shard is its result."""
    torch.set_num_threads(threads)
    built: Encoder = components.build(ENCODERS, Part(**encoder), device, precision)
    embed = UnitEmbedder(work, built)
    return lambda unit: embed(Unit(**unit))


def collect(
    out: Path, tiles: TileDirectory
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Rows of ``slides.parquet`` and all failures, from the shards.

    Failures of tiling are carried over, so that one table tells of every slide.
    """
    failures = [Failure(**row) for row in tiles.failures]
    slides = []
    for slide_id, record in tiles.slides.items():
        chunks = range(record["num_chunks"])
        with ThreadPoolExecutor(16) as pool:
            shards = pool.map(
                lambda chunk: read_metadata(shard_path(out, slide_id, chunk)),  # noqa: B023
                chunks,
            )
        present = [shard for shard in shards if shard]
        found = [Failure(**f) for shard in present for f in shard["failures"]]
        rows: dict[float, int] = {}
        for shard in present:
            for mpp, num in shard["rows"].items():
                rows[float(mpp)] = rows.get(float(mpp), 0) + num
        whole_chunks = sum(failure.mpp is None for failure in found)
        slides.append(
            {
                "slide_id": slide_id,
                "patient_id": record["patient_id"],
                "fingerprint": record["fingerprint"],
                "num_chunks": record["num_chunks"],
                "complete": len(present) == len(chunks) and not whole_chunks,
                "rows_per_scale": sorted(rows.items()),
            }
        )
        failures += found
    return slides, failures


def _log(
    config: EmbedConfig,
    tiles: TileDirectory,
    slides: list[dict[str, Any]],
    failures: list[Failure],
    progress: Progress | None,
) -> None:
    rows = sum(n for slide in slides for _, n in slide["rows_per_scale"])
    seconds = progress.seconds if progress else 0.0
    embedded = progress.tiles if progress else 0
    say(
        f"embed: {len(slides)} slides, {rows:,} rows, {len(failures)} failures "
        f"({len(tiles.failures)} from tiling) -> {config.out}"
    )
    metrics = {
        "slides": len(slides),
        "rows": rows,
        "failures": len(failures),
        "seconds": seconds,
        "tiles_per_s": embedded / seconds if seconds else float("nan"),
    }
    store = tracking.open_store(config.mlflow.uri, config.out, config.mlflow.experiment)
    tags = {"encoder": config.encoder.name}
    artifacts = [config.out / "failures.parquet", config.out / "manifest.json"]
    store.log_run("embed", config.model_dump(mode="json"), metrics, tags, artifacts)
