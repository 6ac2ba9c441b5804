"""Tile a cohort: one unit per slide, its tiles in a shard, its overview a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mshisto_ray.config import (
    InputError,
    InputPath,
    OutputPath,
    option,
)
from mshisto_ray.jobs._cohort import say_cohort
from mshisto_ray.jobs._contact_sheet import ContactSheet
from mshisto_ray.jobs._coverage import coverage_by_scale, coverage_notes
from mshisto_ray.jobs._resolution import resolution_notes
from mshisto_ray.jobs._tile_keys import copy_notes, input_keys
from mshisto_ray.jobs._units import Collected, UnitStage, on_workers, run_units
from mshisto_ray.progress import Progress, say
from mshisto_ray.runtime import UnitsRuntime
from mshisto_ray.store import schema
from mshisto_ray.store.cohort import (
    Cohort,
    CohortSlide,
    read_cohort,
    slide_to_json,
)
from mshisto_ray.store.columns import ColumnsConfig
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.store.tiles import STAGE, shard_path
from mshisto_ray.tiling.places import open_places
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.tissue import needs_annotation
from mshisto_ray.tiling.unit import geojson_paths, make_tiler, overview_path
from mshisto_ray.tracking import ResultRun

if TYPE_CHECKING:
    from mshisto_ray.jobs._tile_check import Checked

_SLIDES = "slides.parquet"
# Of the contact sheet; thousands of slides would fill MLflow's store.
_LOGGED_PAGES = 5


class TileConfig(TilingRecipe):
    """Plan the tiles of a cohort: from slides to linked tiles at every scale."""

    cohort: InputPath = option(text="CSV or Parquet, one row per slide; needs `path`")
    columns: ColumnsConfig = ColumnsConfig()
    out: OutputPath = option(text="tiles directory; an unfinished one is resumed")
    geojson: bool = option(
        False,
        "also write tissue and tiles of each slide for QuPath, counted from the corner "
        "of the scanned area",
    )
    runtime: UnitsRuntime = UnitsRuntime()

    @property
    def recipe(self) -> TilingRecipe:
        """The keys that change rows."""
        return TilingRecipe(**self.model_dump(include=set(TilingRecipe.model_fields)))


def check(config: TileConfig) -> None:
    """Check the cohort and that ``out`` can be used; nothing is written."""
    _read_cohort(config)
    _open_places(config)
    check_stage(config.out, STAGE, config.recipe.as_recipe())


def inspect(config: TileConfig) -> int:
    """Open every slide, tile a few; print what is found and expected.

    Returns:
        2 if a slide is refused, else 0.
    """
    return inspect_slides(_read_cohort(config).rows, config)


def inspect_slides(
    rows: Sequence[CohortSlide],
    config: TileConfig,
    judge: Callable[[Sequence[Checked]], None] = lambda checked: None,
) -> int:
    """As ``inspect``, of these slides of one cohort or several.

    ``judge``: takes the slides' headers, before any is tiled.
    """
    # Imports torch, which tiling itself does without.
    from mshisto_ray.jobs import _tile_check

    checked = _tile_check.check_slides(rows, config.recipe)
    _tile_check.print_slides(checked, config.recipe)
    judge(checked)
    errors = _tile_check.print_estimate(
        checked, config.recipe, config.runtime, config.geojson
    )
    return 2 if errors or any(one.header.refused for one in checked) else 0


def has_reached(config: TileConfig, rows: Sequence[CohortSlide]) -> bool:
    """Whether earlier runs have tiled or refused each of these slides."""
    return all(shard_path(config.out, row.slide_id).is_file() for row in rows)


def run(config: TileConfig) -> None:
    """Plan the tiles of a cohort: from slides to linked tiles at every scale."""
    cohort = _read_cohort(config)
    say_cohort("tile", cohort)
    keys = input_keys(cohort, _open_places(config))
    for note in copy_notes(cohort, keys):
        say(f"tile: {note}")
    recorded = config.model_dump(mode="json")
    with open_stage(config.out, STAGE, config.recipe.as_recipe(), recorded):
        _run(config, cohort, keys)


def _open_places(config: TileConfig) -> EmbeddingDirectory | None:
    return open_places(config.places, config) if config.places else None


def _read_cohort(config: TileConfig) -> Cohort:
    cohort = read_cohort(config.cohort, columns=config.columns)
    if needs_annotation(config) and not any(row.annotation for row in cohort.rows):
        raise InputError(
            f"{config.cohort}: tissue is taken from annotations, and no slide has an "
            "annotation: fill the column `annotation`, or choose another tissue mask"
        )
    return cohort


def _run(config: TileConfig, cohort: Cohort, keys: Mapping[str, Any]) -> None:
    record = config.runtime.result_run(config.out)
    rows = [row for row in cohort.rows if _is_pending(config, row, keys[row.slide_id])]
    _say_earlier(config, rows)
    pending = [slide_to_json(row) | {"key": keys[row.slide_id]} for row in rows]
    names = [unit["slide_id"] for unit in pending]
    sheet = ContactSheet(config.out, cohort.rows, config.scales, names)
    if pending:
        record.open()
    stage = UnitStage(
        "tile",
        "slides",
        config.out,
        len(cohort.rows),
        pending,
        lambda: collect(config.out, cohort),
        lambda found, progress: _report(config, record, sheet, found, progress),
        (_SLIDES,),
        lambda row: sheet.add(row["slide_id"]),
    )
    arguments = (config.out, config.recipe.model_dump(mode="json"), config.geojson)
    make = on_workers(make_tiler, lambda threads: arguments, config.runtime)
    run_units([stage], make, config.runtime.max_failures)


def _lacks_frame(
    config: TileConfig, row: CohortSlide, metadata: Mapping[str, Any]
) -> bool:
    """Whether GeoJSON, in or out, may be displaced: an earlier version has no frame."""
    uses_frame = config.geojson or row.annotation
    found = metadata["slide"]
    return bool(uses_frame and found and "bounds_x" not in found)


def _say_earlier(config: TileConfig, rows: Sequence[CohortSlide]) -> None:
    """Print why slides of an earlier version are tiled again, if there are any."""
    shards = [
        (row, read_metadata(shard_path(config.out, row.slide_id))) for row in rows
    ]
    num = sum(bool(m) and _lacks_frame(config, row, m) for row, m in shards)
    if num:
        say(
            f"tile: {num} slides were tiled by a version that did not record where "
            "GeoJSON counts from: tiled again"
        )


def _is_pending(config: TileConfig, row: CohortSlide, key: Any) -> bool:
    metadata = read_metadata(shard_path(config.out, row.slide_id))
    if metadata is None or metadata["key"] != key or not key["files"]:
        return True
    if _lacks_frame(config, row, metadata):
        return True
    pictures = [overview_path(config.out, row.slide_id)]
    if config.geojson:
        pictures += geojson_paths(config.out, row.slide_id)
    # A failure of the whole slide may be that to draw them.
    failed = any(failure["mpp"] is None for failure in metadata["failures"])
    if metadata["slide"] and not failed and not all(p.exists() for p in pictures):
        return True
    return config.runtime.retries(metadata["failures"])


def collect(out: Path, cohort: Cohort) -> Collected:
    """``slides.parquet`` and all failures, from the shards of the cohort."""
    slides, failures = [], []
    for row in cohort.rows:
        metadata = read_metadata(shard_path(out, row.slide_id))
        if metadata is None:
            continue  # not reached: the run was stopped before
        failures += [Failure(**failure) for failure in metadata["failures"]]
        if metadata["slide"]:
            # Its path and patient may change without tiling it again.
            moved = {"patient_id": row.patient_id, "path": str(row.path)}
            record = metadata["slide"] | moved
            for name in ("tiles_per_scale", "coverage"):  # maps, made lists by JSON
                record[name] = _pairs(record.get(name))
            slides.append(record)
    table = pa.Table.from_pylist(slides, schema=schema.SLIDES)
    total = len(cohort.rows)
    return Collected(failures, total - len(slides), total, {_SLIDES: table})


def _pairs(values: Sequence[Sequence[float]] | None) -> list[tuple] | None:
    return None if values is None else [tuple(pair) for pair in values]


def _report(
    config: TileConfig,
    record: ResultRun,
    sheet: ContactSheet,
    found: Collected,
    progress: Progress | None,
) -> None:
    slides = found.tables[_SLIDES].to_pylist()
    pages = sheet.finish()
    tiles = sum(n for s in slides for _, n in s["tiles_per_scale"])
    metrics = {
        "slides": len(slides),
        "tiles": tiles,
        "failures": len(found.failures),
        "seconds": progress.seconds if progress else 0.0,
        "tissue_mm2": sum(s["tissue_mm2"] for s in slides),
    }
    coverage = coverage_by_scale(slides)
    metrics |= {
        f"coverage_{m:g}": np.mean([*of.values()]) for m, of in coverage.items()
    }
    say(
        f"tile: {len(slides)} slides, {tiles:,} tiles, {len(found.failures)} failures "
        f"-> {config.out}"
    )
    for line in [
        *coverage_notes(coverage, config.tissue_threshold),
        *resolution_notes(slides),
    ]:
        say(f"tile: {line}")
    artifacts = [*pages[:_LOGGED_PAGES], config.out / "failures.csv"]
    settings = config.model_dump(mode="json")
    record.log(found.digest, "tile", settings, metrics, artifacts=artifacts)
