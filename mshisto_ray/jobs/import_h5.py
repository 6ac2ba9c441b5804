"""Import features of other software: one unit per slide, HDF5 file to shard."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from mshisto_ray.config import (
    Config,
    InputError,
    InputPath,
    OutputPath,
    option,
)
from mshisto_ray.exchange.h5 import H5Error, width_of
from mshisto_ray.exchange.h5_import import ImportRecipe
from mshisto_ray.exchange.import_unit import make_importer
from mshisto_ray.jobs._units import Collected, UnitStage, on_workers, run_units
from mshisto_ray.progress import Progress, say
from mshisto_ray.runtime import UnitsRuntime
from mshisto_ray.store import schema
from mshisto_ray.store.cohort import Cohort, CohortSlide, read_cohort, slide_to_json
from mshisto_ray.store.embeddings import STAGE, shard_path
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.fingerprint import slide_fingerprint
from mshisto_ray.store.manifest import check_stage, open_stage, recipe_digest
from mshisto_ray.store.shards import read_metadata

_SLIDES = "slides.parquet"


class ImportConfig(Config):
    """Import tile features that TRIDENT or CLAM extracted as embeddings."""

    features: InputPath = option(
        text="folder of NAME.h5; NAME: a slide_id, or a slide file without suffix"
    )
    coordinates: InputPath | None = option(
        None, "folder of CLAM's patches, which hold the size of its tiles"
    )
    cohort: InputPath = option(text="CSV or Parquet, one row per slide; needs `path`")
    out: OutputPath = option(text="embeddings directory; an unfinished one is resumed")
    encoder: str = option(text="name of the encoder of the features", min_length=1)
    mpp: float = option(text="scale of the tiles (20x is 0.5)", unit="um/px", gt=0)
    tile_px: int = option(256, "side of a tile as embedded", unit="px", ge=1)
    extent: float | None = option(
        None, "side of a tile if no file gives it", unit="level-0 px", gt=0
    )
    dtype: Literal["float16", "float32"] = option(
        "float32", "of the stored vectors; float32 keeps both kinds exactly"
    )
    check_slides: bool = option(
        True, "compare places and resolution with the slides; false: without slides"
    )
    mpp_tolerance: float = option(
        0.1,
        "by which a tile's resolution may differ from mpp",
        unit="share",
        ge=0,
        le=1,
    )
    runtime: UnitsRuntime = UnitsRuntime()


def check(config: ImportConfig) -> None:
    """Check cohort and folders, and that ``out`` can be used."""
    cohort = read_cohort(config.cohort, check_files=config.check_slides)
    check_stage(config.out, STAGE, _recipe(config, _find(config, cohort)))


def run(config: ImportConfig) -> None:
    """Import tile features that TRIDENT or CLAM extracted as embeddings."""
    cohort = read_cohort(config.cohort, check_files=config.check_slides)
    files = _find(config, cohort)
    recipe = _recipe(config, files)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        _run(config, cohort, files, recipe["dim"])


def _run(
    config: ImportConfig, cohort: Cohort, files: Mapping[str, Path], dim: int
) -> None:
    keys = _keys(config, cohort, files)
    pending = [
        _to_unit(config, row, files.get(row.slide_id), keys[row.slide_id])
        for row in cohort.rows
        if _is_pending(config, row, keys)
    ]
    stage = UnitStage(
        "import",
        "slides",
        config.out,
        len(cohort.rows),
        pending,
        lambda: _collect(config, cohort, files),
        lambda found, progress: _report(config, found, progress),
        (_SLIDES,),
    )
    names = set(ImportRecipe.__dataclass_fields__) - {"dim"}
    recipe = ImportRecipe(dim=dim, **config.model_dump(include=names))
    arguments = (config.out, recipe)
    make = on_workers(make_importer, lambda plan: arguments, config.runtime)
    run_units([stage], make, config.runtime.max_failures)


def _find(config: ImportConfig, cohort: Cohort) -> dict[str, Path]:
    """Files of features by slide_id; InputError if there are none at all."""
    if not config.features.is_dir():
        raise InputError(f"features: no such folder: {config.features}")
    if config.coordinates and not config.coordinates.is_dir():
        raise InputError(f"coordinates: no such folder: {config.coordinates}")
    by_name = {path.stem: path for path in sorted(config.features.glob("*.h5"))}
    files = {}
    for row in cohort.rows:
        path = by_name.get(row.slide_id) or by_name.get(row.path.stem)
        if path:
            files[row.slide_id] = path
    if not files:
        raise InputError(
            f"features: none of the {len(by_name)} .h5 files in {config.features} has "
            f"the name of a slide of {config.cohort}: name them SLIDE_ID.h5"
        )
    return files


def _recipe(config: ImportConfig, files: Mapping[str, Path]) -> dict[str, Any]:
    """The settings that change rows; the first readable file gives the width."""
    for path in files.values():
        try:
            dim = width_of(path)
        except H5Error:
            continue
        break
    else:
        raise InputError(
            f"features: none of the {len(files)} files in {config.features} is HDF5 "
            "with `features`, as TRIDENT and CLAM write them"
        )
    keys = ("extent", "mpp_tolerance", "check_slides")
    return {
        "tiles": {"scales": [config.mpp], "tile_px": config.tile_px},
        "encoder": {"name": config.encoder, "digest": "imported"},
        "dim": dim,
        "dtype": config.dtype,
        "colour": ["rgb"],
        "imported": {key: getattr(config, key) for key in keys},
    }


def _keys(
    config: ImportConfig, cohort: Cohort, files: Mapping[str, Path]
) -> dict[str, Any]:
    """The inputs that a slide's shard must match to be kept, by slide_id."""

    def key(row: CohortSlide) -> dict[str, Any]:
        path = files.get(row.slide_id)
        used = [path, _coordinates(config, path), config.check_slides and row.path]
        prints = [slide_fingerprint(p) if p and p.exists() else None for p in used]
        return {"files": prints, "mpp": row.mpp}

    with ThreadPoolExecutor(16) as pool:
        keys = pool.map(key, cohort.rows)
    return {row.slide_id: k for row, k in zip(cohort.rows, keys, strict=True)}


def _coordinates(config: ImportConfig, features: Path | None) -> Path | None:
    if features is None or config.coordinates is None:
        return None
    return config.coordinates / features.name


def _is_pending(
    config: ImportConfig, row: CohortSlide, keys: Mapping[str, Any]
) -> bool:
    metadata = read_metadata(shard_path(config.out, row.slide_id, 0))
    if metadata is None or metadata["key"] != keys[row.slide_id]:
        return True
    return config.runtime.retries(metadata["failures"])


def _to_unit(
    config: ImportConfig, row: CohortSlide, features: Path | None, key: Any
) -> dict[str, Any]:
    used = {"features": features, "coordinates": _coordinates(config, features)}
    named = {name: str(path) if path else None for name, path in used.items()}
    slide = {"slide_id": row.slide_id, "row": slide_to_json(row)}
    return slide | {"key": key} | named


def _collect(
    config: ImportConfig, cohort: Cohort, files: Mapping[str, Path]
) -> Collected:
    """``slides.parquet`` and all failures, from the shards."""
    slides, failures = [], []
    for row in cohort.rows:
        metadata = read_metadata(shard_path(config.out, row.slide_id, 0))
        if metadata is None:
            continue  # not reached: the run was stopped before
        found = [Failure(**failure) for failure in metadata["failures"]]
        features, _, slide = metadata["key"]["files"]
        slides.append(
            {
                "slide_id": row.slide_id,
                "patient_id": row.patient_id,
                "fingerprint": slide or features or "",
                "made_from": recipe_digest(metadata["key"]),
                "num_chunks": 1,
                "complete": all(failure.row is not None for failure in found),
                "rows_per_scale": [(float(m), n) for m, n in metadata["rows"].items()],
            }
        )
        failures += found
    failures += _unknown(config, files)
    table = pa.Table.from_pylist(slides, schema=schema.EMBEDDED_SLIDES)
    failed = sum(not slide["rows_per_scale"] for slide in slides)
    return Collected(failures, failed, len(cohort.rows), {_SLIDES: table})


def _unknown(config: ImportConfig, files: Mapping[str, Path]) -> list[Failure]:
    """Failures of files that match no slide of the cohort."""
    known = set(files.values())
    message = f"{{}}: no slide of {config.cohort.name} has this name: add its row, or "
    message += "rename the file after its slide_id"
    return [
        Failure(p.stem, "import", "input", "UnknownSlide", message.format(p.name))
        for p in sorted(config.features.glob("*.h5"))
        if p not in known
    ]


def _report(config: ImportConfig, found: Collected, progress: Progress | None) -> None:
    slides = found.tables[_SLIDES].to_pylist()
    rows = sum(n for slide in slides for _, n in slide["rows_per_scale"])
    complete = sum(slide["complete"] for slide in slides)
    say(
        f"import: {complete} of {len(slides)} slides, {rows:,} rows, "
        f"{len(found.failures)} failures -> {config.out}"
    )
    metrics = {
        "slides": complete,
        "rows": rows,
        "failures": len(found.failures),
        "seconds": progress.seconds if progress else 0.0,
    }
    store = config.runtime.open_store(config.out)
    tags = {"encoder": config.encoder}
    artifacts = [config.out / "failures.parquet", config.out / "manifest.json"]
    store.log_run("import", config.model_dump(mode="json"), metrics, tags, artifacts)
