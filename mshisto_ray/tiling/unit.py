"""Tile one slide in a worker: write its shard of tiles and its overview picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mshisto_ray.drawing.canvas import save_png
from mshisto_ray.drawing.overview import ScaleTiles, draw_overview
from mshisto_ray.exchange.geojson import write_tiles, write_tissue
from mshisto_ray.slides import (
    SlideError,
    Watchdog,
)
from mshisto_ray.store import schema
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.cohort import CohortSlide, slide_from_json
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.fingerprint import slide_fingerprint
from mshisto_ray.store.guard import Guard, count_row, guarded
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.tiles import shard_path
from mshisto_ray.tiling.annotation import outlines_of
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.slide import TiledSlide, tile_slide

# Plain: without sharpness, in case it is its measurement that ends the process.
_PLAIN_ATTEMPT, _LAST_ATTEMPT = 3, 5


def make_tiler(
    out: Path, recipe: dict[str, Any], geojson: bool = False
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that tiles one slide, writes its files and returns its counts."""
    settings = TilingRecipe(**recipe)
    watchdog = Watchdog()

    def tile(unit: dict[str, Any]) -> dict[str, Any]:
        key = unit.pop("key")
        row = slide_from_json(unit)
        guard = Guard("tile", row.slide_id)
        attempts = Attempts(out, row.slide_id)
        attempt = attempts.begin()
        watchdog.before_end = attempts.record_hang

        def plan() -> TiledSlide:
            attempts.check_hangs()
            return _tile(row, settings, attempt, watchdog)

        made = guard.make(plan)
        tiled = None if isinstance(made, Failure) else made
        failures = [made] if isinstance(made, Failure) else list(made.failures)
        if tiled:
            drawn = guard.make(lambda: write_pictures(out, tiled, geojson))
            failures += [drawn] if drawn else []
        tables = tiled.tiles if tiled else [schema.TILES.empty_table()]
        metadata = {
            "key": key,
            "slide": tiled.record if tiled else None,
            "failures": [asdict(failure) for failure in failures],
        }
        with watchdog.watching():
            write_shard(shard_path(out, row.slide_id), tables, metadata)
        attempts.end()
        num = sum(table.num_rows for table in tables)
        return count_row(row.slide_id, num, failures)

    return guarded(tile, "tile")


def _tile(
    row: CohortSlide, recipe: TilingRecipe, attempt: int, watchdog: Watchdog
) -> TiledSlide:
    if attempt >= _LAST_ATTEMPT:
        raise SlideError(
            "Crash",
            f"opening or scanning it ended the process {attempt - 1} times: it is "
            "damaged; copy it again, or leave it out",
        )
    if attempt >= _PLAIN_ATTEMPT:
        recipe = recipe.without_focus()
    fingerprint = watchdog.watched(slide_fingerprint)
    return tile_slide(row, recipe, watchdog.open_slide, fingerprint)


def write_pictures(out: Path, tiled: TiledSlide, geojson: bool) -> None:
    """Write the overview of a slide, and the GeoJSON files if wanted."""
    _write_overview(out, tiled)
    if geojson:
        _write_geojson(out, tiled)


def overview_path(out: Path, slide_id: str) -> Path:
    """Path of the overview picture of a slide."""
    return out / "overview" / f"{file_name(slide_id)}.png"


def geojson_paths(out: Path, slide_id: str) -> tuple[Path, Path]:
    """Paths of the GeoJSON files of a slide's tissue and tiles."""
    folder, name = out / "geojson", file_name(slide_id)
    return folder / f"{name}.tissue.geojson", folder / f"{name}.tiles.geojson"


def _write_geojson(out: Path, tiled: TiledSlide) -> None:
    record, plans = tiled.record, tiled.plans
    tissue, tiles = geojson_paths(out, record["slide_id"])
    size = (record["width"], record["height"])
    origin = (record["bounds_x"], record["bounds_y"])
    write_tissue(tissue, tiled.tissue, tiled.thumbnail.span, size, origin)
    scores = {
        "tissue": np.concatenate([plan.tissue for plan in plans]),
        "focus": np.concatenate(tiled.focus),
    }
    classes = [f"{p.reading.mpp:g} um/px" for p in plans for _ in p.row]
    x, y = (np.concatenate([getattr(p, name) for p in plans]) for name in "xy")
    extent = np.concatenate([np.full(len(p.row), p.reading.extent) for p in plans])
    write_tiles(tiles, x, y, extent, scores, classes, origin)


def _write_overview(out: Path, tiled: TiledSlide) -> None:
    record = tiled.record
    counts = ", ".join(f"{n:,} at {mpp:g}" for mpp, n in record["tiles_per_scale"])
    title = f"{record['slide_id']}  {record['mpp']:.4g} um/px  tiles: {counts} um/px"
    tiles = {
        p.reading.mpp: ScaleTiles(
            p.x,
            p.y,
            p.reading.extent,
            p.own,
            p.coverage,
            tiled.scales.index(p.reading.mpp),
        )
        for p in tiled.plans
    }
    image = draw_overview(
        tiled.thumbnail.pixels, tiled.thumbnail.span, tiled.tissue, tiles, title,
        record["mpp"], outlines_of(tiled.regions),
    )  # fmt: skip
    path = overview_path(out, record["slide_id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(image, path)
