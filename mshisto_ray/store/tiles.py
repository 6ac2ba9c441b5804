"""Reading a tiles directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.store.manifest import Manifest, read_manifest

STAGE = "tiles"


def shard_path(directory: Path, slide_id: str) -> Path:
    """Where the tiles of a slide lie."""
    return directory / "shards" / f"{slide_id}.parquet"


class TileDirectory:
    """What ``jobs/tile.py`` wrote.

    Attributes:
        slides: rows of ``slides.parquet`` by slide_id, in cohort order.
        failures: rows of ``failures.parquet``.
    """

    def __init__(self, path: Path):
        self.path = path
        self.manifest: Manifest = read_manifest(path, STAGE)
        table = path / "slides.parquet"
        if not table.is_file():
            raise InputError(
                f"{path}: tiling has not come to its end; run jobs/tile.py again, it "
                "goes on where it stopped"
            )
        rows = pq.read_table(table).to_pylist()
        self.slides: dict[str, dict[str, Any]] = {row["slide_id"]: row for row in rows}
        self.failures = pq.read_table(path / "failures.parquet").to_pylist()

    @property
    def pixel_recipe(self) -> dict[str, Any]:
        """The recipe without what is only measured of tiles: what decides a tile."""
        recipe = self.manifest.recipe
        return {key: recipe[key] for key in recipe if key != "focus_mpp"}

    def read_chunk(self, slide_id: str, chunk: int) -> pa.Table:
        """Tiles of one chunk, sorted by (mpp, row, col): its row group."""
        with pq.ParquetFile(shard_path(self.path, slide_id)) as file:
            return file.read_row_group(chunk)

    def read(self, slide_id: str) -> pa.Table:
        """Every planned tile of a slide, chunk by chunk."""
        return pq.read_table(shard_path(self.path, slide_id))
