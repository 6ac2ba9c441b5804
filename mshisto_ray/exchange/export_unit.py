"""Export one slide's embeddings in a worker: write them to an HDF5 file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mshisto_ray.exchange.h5 import write_h5
from mshisto_ray.exchange.h5_export import to_features
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.guard import count_row, guarded


def make_exporter(
    embeddings: Path, out: Path, recipe: dict[str, Any]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that exports one slide to its HDF5 file and returns its counts."""
    directory = EmbeddingDirectory(embeddings)
    tile_px = directory.manifest.recipe["tiles"]["tile_px"]
    mpp, layout = recipe["mpp"], recipe["layout"]

    def work(unit: dict[str, Any]) -> dict[str, Any]:
        slide_id = unit["slide_id"]
        own_only = not recipe["ancestors"]
        tiles = directory.read(slide_id, mpp, own_only, recipe["colour"])
        features = to_features(tiles, tile_px)
        state = directory.state(slide_id)
        write_h5(h5_path(out, slide_id), slide_id, features, mpp, layout, state)
        return count_row(slide_id, len(tiles.row), [])

    return guarded(work, "export")


def h5_path(out: Path, slide_id: str) -> Path:
    """Path of the HDF5 file with the features of a slide."""
    return out / f"{file_name(slide_id)}.h5"
