"""Export one slide's embeddings in a worker: write them to an HDF5 file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mshisto_ray.exchange.h5 import write_h5
from mshisto_ray.exchange.h5_export import to_features
from mshisto_ray.slides import Watchdog
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.errors import UnitError
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.guard import count_row, guarded

_LAST_ATTEMPT = 3


def make_exporter(
    embeddings: Path, out: Path, recipe: dict[str, Any]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that exports one slide to its HDF5 file and returns its counts."""
    directory = EmbeddingDirectory(embeddings)
    tile_px = directory.manifest.recipe["tiles"]["tile_px"]
    mpp, layout = recipe["mpp"], recipe["layout"]

    watchdog = Watchdog()

    def export(slide_id: str) -> int:
        own_only = not recipe["ancestors"]
        tiles = directory.read(slide_id, mpp, own_only, recipe["colour"])
        features = to_features(tiles, tile_px)
        state = directory.state(slide_id)
        write_h5(h5_path(out, slide_id), slide_id, features, mpp, layout, state)
        return len(tiles.row)

    def work(unit: dict[str, Any]) -> dict[str, Any]:
        slide_id = unit["slide_id"]
        attempts = Attempts(out, slide_id)
        attempt = attempts.begin()
        watchdog.before_end = attempts.record_hang
        try:
            attempts.check_hangs()
            _check_ends(attempt, slide_id)
            with watchdog.watching():
                return count_row(slide_id, export(slide_id), [])
        finally:  # of a failure too: no shard records it, the row does
            attempts.end()

    return guarded(work, "export")


def _check_ends(attempt: int, slide_id: str) -> None:
    if attempt >= _LAST_ATTEMPT:
        raise UnitError(
            "Crash",
            f"exporting {slide_id} ended the process {attempt - 1} times: see the "
            "worker's log (out of memory?)",
        )


def h5_path(out: Path, slide_id: str) -> Path:
    """Path of the HDF5 file with the features of a slide."""
    return out / f"{file_name(slide_id)}.h5"
