"""Export embeddings for other software: one unit and HDF5 file per slide."""

from __future__ import annotations

from typing import Any

from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.exchange.export_unit import h5_path, make_exporter
from mshisto_ray.exchange.h5 import Layout, read_made_from
from mshisto_ray.jobs._units import Collected, UnitStage, on_workers, run_units
from mshisto_ray.progress import say
from mshisto_ray.runtime import WorkersRuntime
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.tracking import ResultRun

STAGE = "h5"


class ExportConfig(Config):
    """Export embeddings as files of features for TRIDENT's and CLAM's users."""

    embeddings: InputPath = option(text="embeddings directory")
    out: OutputPath = option(text="folder of SLIDE_ID.h5; an unfinished one is resumed")
    mpp: float | None = option(None, "scale; null: the finest", unit="um/px", gt=0)
    layout: Layout = option("trident", "whose attributes to write: trident or clam")
    colour: str | None = option(None, "colour mode to export; null: the first")
    ancestors: bool = option(
        False, "also tiles with too little tissue, planned only for their children"
    )
    runtime: WorkersRuntime = WorkersRuntime()


def check(config: ExportConfig) -> None:
    """Check the embeddings and that ``out`` can be used."""
    check_stage(
        config.out, STAGE, _recipe(config, EmbeddingDirectory(config.embeddings))
    )


def run(config: ExportConfig) -> None:
    """Export embeddings as files of features for TRIDENT's and CLAM's users."""
    directory = EmbeddingDirectory(config.embeddings)
    recipe = _recipe(config, directory)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        _run(config, directory, recipe)


def _recipe(config: ExportConfig, directory: EmbeddingDirectory) -> dict[str, Any]:
    mpp = directory.scales[0] if config.mpp is None else config.mpp
    if mpp not in directory.scales:
        raise InputError(
            f"mpp: {mpp} is not in {directory.path}; have {directory.scales}"
        )
    colour = config.colour or directory.colours[0]
    if colour not in directory.colours:
        raise InputError(
            f"colour: {colour!r} is not in {directory.path}; have {directory.colours}"
        )
    return {
        "embeddings": directory.manifest.digest,
        "mpp": mpp,
        "layout": config.layout,
        "colour": colour,
        "ancestors": config.ancestors,
    }


def _run(
    config: ExportConfig, directory: EmbeddingDirectory, recipe: dict[str, Any]
) -> None:
    record = config.runtime.result_run(config.out)
    pending = [
        {"slide_id": slide_id}
        for slide_id in directory.slide_ids
        if read_made_from(h5_path(config.out, slide_id)) != directory.state(slide_id)
    ]
    total = len(directory.slide_ids)
    if pending:
        record.open()
    stage = UnitStage(
        "export",
        "slides",
        config.out,
        total,
        pending,
        lambda: Collected([], 0, total),
        lambda found, progress: _report(config, record, directory, found),
    )
    arguments = (config.embeddings, config.out, recipe)
    make = on_workers(make_exporter, lambda threads: arguments, config.runtime)
    run_units([stage], make, max_failures=1.0)


def _report(
    config: ExportConfig,
    record: ResultRun,
    directory: EmbeddingDirectory,
    found: Collected,
) -> None:
    left_out = len(directory.incomplete)
    say(
        f"export: {len(directory.slide_ids)} slides, {left_out} incomplete ones left "
        f"out -> {config.out}"
    )
    metrics = {"slides": len(directory.slide_ids), "incomplete": left_out}
    # The files' names and content follow from the directory's digest.
    key = f"{found.digest} {directory.digest}"
    record.log(key, "export", config.model_dump(mode="json"), metrics)
