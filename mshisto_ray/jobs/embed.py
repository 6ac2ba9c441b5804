"""Embed the tiles of a cohort: one unit per chunk, read, embedded and written."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from mshisto_ray.backbone.precision import check_precision
from mshisto_ray.embedding.unit import Chunk, unit_key
from mshisto_ray.embedding.worker import GRAPH, make_embedder
from mshisto_ray.jobs._embed_check import print_estimate
from mshisto_ray.jobs._embed_config import (
    PIXELS,
    EmbedConfig,
    EmbedTarget,
    make_targets,
)
from mshisto_ray.jobs._embed_settle import settle, work_of
from mshisto_ray.jobs._units import Collected, UnitStage, run_units
from mshisto_ray.progress import Progress, say
from mshisto_ray.store import schema
from mshisto_ray.store.embeddings import STAGE, shard_path
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.learned_labels import record_encoder
from mshisto_ray.store.manifest import check_stage, open_stage, recipe_digest
from mshisto_ray.store.row_counts import count_slide
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tracking import ResultRun

_SLIDES = "slides.parquet"
# What may be in a directory before its manifest is.
_BROUGHT = (GRAPH.parts[0],)


def check(config: EmbedConfig) -> None:
    """Check the tiles, the encoders and that ``out`` can be used."""
    tiles = TileDirectory(config.tiles)
    for target in make_targets(config, tiles):
        check_stage(target.out, target.stage, target.recipe, _BROUGHT)


def inspect(config: EmbedConfig) -> int:
    """Read and embed some tiles; print what all of them will take.

    Returns:
        2 if none of these tiles can be read, else 0.
    """
    return print_estimate(config, TileDirectory(config.tiles))


def run(config: EmbedConfig) -> None:
    """Embed every planned tile of a tiles directory."""
    tiles = TileDirectory(config.tiles)
    targets = make_targets(config, tiles)
    for target in targets:  # check all before making the first
        check_stage(target.out, target.stage, target.recipe, _BROUGHT)
    targets = settle(config, targets, work_of(config, targets))
    with contextlib.ExitStack() as stack:
        for target in targets:
            recorded = target.config.model_dump(mode="json")
            recorded |= record_encoder(recorded["encoder"] or {})
            stage = open_stage(
                target.out,
                target.stage,
                target.recipe,
                recorded,
                _BROUGHT,
                {"engine_check": target.engine_check} if target.engine_check else {},
            )
            stack.enter_context(stage)
        _run(config, tiles, targets)
        for target in targets:  # holds the weights, which may not be passed on
            shutil.rmtree(target.out / GRAPH.parts[0], ignore_errors=True)


def _run(
    config: EmbedConfig, tiles: TileDirectory, targets: Sequence[EmbedTarget]
) -> None:
    stages = [_make_stage(config, target, tiles) for target in targets]
    chunks = dict.fromkeys(
        Chunk(unit["slide_id"], unit["chunk"])
        for stage in stages
        for unit in stage.pending
    )
    run_units(
        stages,
        lambda units: embed_units(config, targets, units),
        config.runtime.max_failures,
        _expected_tiles(tiles, chunks),
    )


def _make_stage(
    config: EmbedConfig, target: EmbedTarget, tiles: TileDirectory
) -> UnitStage:
    encoder = target.config.encoder
    if encoder and encoder.parameters.get("weights") == "random":
        say(
            f"embed: warning: {encoder.parameters['model']} has random weights: models "
            "trained on these embeddings say nothing about a trained encoder; give a "
            "weights file, or weights: pretrained"
        )
    for warning in target.warnings:
        say(f"embed: warning: {warning}")
    total, pending = plan_units(target, tiles)
    record = config.runtime.result_run(config.out, target.out)
    if pending:
        record.open()
    return UnitStage(
        "embed",
        "chunks",
        target.out,
        total,
        [asdict(chunk) for chunk in pending],
        lambda: collect(target.out, tiles),
        lambda found, progress: _report(target, record, tiles, found, progress),
        (_SLIDES,),
    )


def _expected_tiles(tiles: TileDirectory, chunks: Iterable[Chunk]) -> int:
    """Approximate number of tiles in chunks: a slide's chunks are taken as equal."""
    per_slide = Counter(chunk.slide_id for chunk in chunks)
    return sum(
        n * per_slide[slide] // tiles.slides[slide]["num_chunks"]
        for slide in per_slide
        for _, n in tiles.slides[slide]["tiles_per_scale"]
    )


def plan_units(target: EmbedTarget, tiles: TileDirectory) -> tuple[int, list[Chunk]]:
    """The number of all chunks, and the chunks to make; removes outdated shards.

    Large slides come first, so that small ones remain for the end, when some workers
    run out of units.
    """

    def num_tiles(slide_id: str) -> int:
        return sum(n for _, n in tiles.slides[slide_id]["tiles_per_scale"])

    units = [
        Chunk(slide_id, chunk)
        for slide_id in sorted(tiles.slides, key=num_tiles, reverse=True)
        for chunk in range(tiles.slides[slide_id]["num_chunks"])
    ]

    def is_pending(unit: Chunk) -> bool:
        path = shard_path(target.out, unit.slide_id, unit.chunk)
        metadata = read_metadata(path)
        if metadata is None:
            return True
        retry = target.config.runtime.retries(metadata["failures"])
        if retry or metadata["key"] != unit_key(tiles.slides[unit.slide_id]):
            path.unlink()
            return True
        return False

    planned = {shard_path(target.out, u.slide_id, u.chunk) for u in units}

    def remove_surplus(slide_id: str) -> None:
        """Remove chunks of an earlier tiling, which may have had more."""
        folder = shard_path(target.out, slide_id, 0).parent
        for path in set(folder.glob("chunk-*.parquet")) - planned:
            path.unlink()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(remove_surplus, tiles.slides))
        flags = list(pool.map(is_pending, units))
    pending = [unit for unit, flag in zip(units, flags, strict=True) if flag]
    return len(units), pending


def embed_units(
    config: EmbedConfig, targets: Sequence[EmbedTarget], units: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Embed chunks, as JSON values; yields each one's row of counts as it is done."""
    work = work_of(config, targets)
    # Takes seconds to import, which a stage that is done does without.
    from mshisto_ray.distributed import pipeline, session
    from mshisto_ray.jobs._embed_plan import plan_reading

    with session.connect():
        plan, start_reading = plan_reading(config)
        device = "cuda" if plan.gpus else "cpu"
        for pair in work.pairs.values():
            check_precision(pair.precision, device)
        arguments = (
            work,
            device,
            plan.threads,
            start_reading,
        )
        yield from pipeline.stream(units, make_embedder, arguments, plan)


def collect(out: Path, tiles: TileDirectory) -> Collected:
    """``slides.parquet`` and all failures, from the shards.

    Failures of tiling are carried over, so that one table lists those of every slide.
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
        whole_chunks = sum(failure.mpp is None for failure in found)
        slides.append(
            {
                "slide_id": slide_id,
                "patient_id": record["patient_id"],
                "fingerprint": record["fingerprint"],
                "made_from": recipe_digest(unit_key(record)),
                "num_chunks": record["num_chunks"],
                "complete": len(present) == len(chunks) and not whole_chunks,
                **count_slide(present),
            }
        )
        failures += found
    table = pa.Table.from_pylist(slides, schema=schema.EMBEDDED_SLIDES)
    failed = sum(not sum(n for _, n in slide["rows_per_scale"]) for slide in slides)
    return Collected(failures, failed, len(slides), {_SLIDES: table})


def _report(
    target: EmbedTarget,
    record: ResultRun,
    tiles: TileDirectory,
    found: Collected,
    progress: Progress | None,
) -> None:
    slides, failures = found.tables[_SLIDES].to_pylist(), found.failures
    rows = sum(n for slide in slides for _, n in slide["rows_per_scale"])
    seconds = progress.seconds if progress else 0.0
    embedded = progress.tiles if progress else 0
    say(
        f"embed: {len(slides)} slides, {rows:,} rows, {len(failures)} failures "
        f"({len(tiles.failures)} from tiling) -> {target.out}"
    )
    metrics = {
        "slides": len(slides),
        "rows": rows,
        "failures": len(failures),
        "seconds": seconds,
        "tiles_per_s": embedded / seconds if seconds else float("nan"),
    }
    made = target.recipe["encoder"]["name"] if target.stage == STAGE else PIXELS
    tags = {"encoder": made}
    artifacts = [target.out / "failures.csv", target.out / "manifest.json"]
    settings = target.config.model_dump(mode="json")
    record.log(found.digest, "embed", settings, metrics, tags, artifacts)
