"""Import one slide's features in a worker: write its HDF5 file's tiles to a shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from mshisto_ray.exchange.h5 import H5Error
from mshisto_ray.exchange.h5_import import ImportRecipe, import_slide
from mshisto_ray.slides import (
    SlideError,
    Watchdog,
)
from mshisto_ray.store import schema
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.cohort import CohortSlide, slide_from_json
from mshisto_ray.store.embeddings import shard_path
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.fingerprint import slide_fingerprint
from mshisto_ray.store.guard import Guard, count_row, guarded
from mshisto_ray.store.row_counts import count_rows
from mshisto_ray.store.shards import write_shard

_LAST_ATTEMPT = 3


def make_importer(
    out: Path, recipe: ImportRecipe
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that imports one slide into its shard and returns its counts."""
    kind = pa.float16() if recipe.dtype == "float16" else pa.float32()
    watchdog = Watchdog()

    def work(unit: dict[str, Any]) -> dict[str, Any]:
        row = slide_from_json(unit["row"])
        table = schema.embeddings(recipe.dim, kind).empty_table()
        attempts = Attempts(out, row.slide_id)
        attempt = attempts.begin()
        watchdog.before_end = attempts.record_hang

        def read() -> tuple[pa.Table, list[Failure]]:
            attempts.check_hangs()
            return _import(row, unit, recipe, attempt, watchdog)

        made = Guard("import", row.slide_id).make(read)
        if isinstance(made, Failure):
            failures = [made]
        else:
            table, failures = made
        metadata = {
            "key": unit["key"],
            **count_rows([table]),
            "failures": [asdict(failure) for failure in failures],
        }
        with watchdog.watching():
            write_shard(shard_path(out, row.slide_id, 0), [table], metadata)
        attempts.end()
        return count_row(row.slide_id, table.num_rows, failures)

    return guarded(work, "import")


def _import(
    row: CohortSlide,
    unit: dict[str, Any],
    recipe: ImportRecipe,
    attempt: int,
    watchdog: Watchdog,
) -> tuple[pa.Table, list[Failure]]:
    if unit["features"] is None:
        wanted = f"no {row.slide_id}.h5 nor {row.path.stem}.h5 among the features"
        raise H5Error("NoFeatures", f"{wanted}: extract the slide")
    if attempt >= _LAST_ATTEMPT:
        raise SlideError(
            "Crash",
            f"reading {unit['features']} or the slide ended the process "
            f"{attempt - 1} times: one of them is damaged; copy it again",
        )
    coordinates = Path(unit["coordinates"]) if unit["coordinates"] else None
    features = Path(unit["features"])
    watchdog.watched(slide_fingerprint)(features)  # its storage may not answer
    return import_slide(
        row, features, coordinates, recipe, watchdog.open_slide, watchdog.watching
    )
