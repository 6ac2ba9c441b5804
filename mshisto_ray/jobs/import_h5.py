"""Import features of other software: one unit per slide, HDF5 file to shard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from mshisto_ray.exchange.h5_import import ImportRecipe
from mshisto_ray.exchange.import_unit import make_importer
from mshisto_ray.jobs._cohort import say_cohort
from mshisto_ray.jobs._import_plan import (
    ImportConfig,
    find_files,
    input_keys,
    is_pending,
    make_recipe,
    to_unit,
)
from mshisto_ray.jobs._units import Collected, UnitStage, on_workers, run_units
from mshisto_ray.progress import Progress, say
from mshisto_ray.store import schema
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.embeddings import STAGE, shard_path
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.manifest import check_stage, open_stage, recipe_digest
from mshisto_ray.store.row_counts import count_slide
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.tracking import ResultRun

_SLIDES = "slides.parquet"


def check(config: ImportConfig) -> None:
    """Check cohort and folders, and that ``out`` can be used."""
    cohort = _read_cohort(config)
    check_stage(config.out, STAGE, make_recipe(config, find_files(config, cohort)))


def run(config: ImportConfig) -> None:
    """Import tile features that TRIDENT or CLAM extracted as embeddings."""
    cohort = _read_cohort(config)
    say_cohort("import", cohort)
    files = find_files(config, cohort)
    recipe = make_recipe(config, files)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        _run(config, cohort, files, recipe["dim"])


def _read_cohort(config: ImportConfig) -> Cohort:
    return read_cohort(config.cohort, config.check_slides, config.columns)


def _run(
    config: ImportConfig, cohort: Cohort, files: Mapping[str, Path], dim: int
) -> None:
    record = config.runtime.result_run(config.out)
    keys = input_keys(config, cohort, files)
    pending = [
        to_unit(config, row, files.get(row.slide_id), keys[row.slide_id])
        for row in cohort.rows
        if is_pending(config, row, keys)
    ]
    if pending:
        record.open()
    stage = UnitStage(
        "import",
        "slides",
        config.out,
        len(cohort.rows),
        pending,
        lambda: _collect(config, cohort, files),
        lambda found, progress: _report(config, record, found, progress),
        (_SLIDES,),
    )
    names = set(ImportRecipe.__dataclass_fields__) - {"dim"}
    recipe = ImportRecipe(dim=dim, **config.model_dump(include=names))
    arguments = (config.out, recipe)
    make = on_workers(make_importer, lambda threads: arguments, config.runtime)
    run_units([stage], make, config.runtime.max_failures)


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
                "complete": bool(metadata["rows"])
                and all(failure.row is not None for failure in found),
                **count_slide([metadata]),
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


def _report(
    config: ImportConfig, record: ResultRun, found: Collected, progress: Progress | None
) -> None:
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
    tags = {"encoder": config.encoder}
    artifacts = [config.out / "failures.csv", config.out / "manifest.json"]
    settings = config.model_dump(mode="json")
    record.log(found.digest, "import", settings, metrics, tags, artifacts)
