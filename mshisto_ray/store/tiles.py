"""Reading a tiles directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.manifest import Manifest, read_manifest

STAGE = "tiles"


def shard_path(directory: Path, slide_id: str) -> Path:
    """Path of the shard with the tiles of a slide."""
    return directory / "shards" / f"{file_name(slide_id)}.parquet"


class TileDirectory:
    """A finished tiles directory, as ``mshisto tile`` writes it.

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
                f"{path}: tiling is not finished; run mshisto tile again to resume it"
            )
        rows = pq.read_table(table).to_pylist()
        self.slides: dict[str, dict[str, Any]] = {row["slide_id"]: row for row in rows}
        self.failures = pq.read_table(path / "failures.parquet").to_pylist()

    @property
    def pixel_recipe(self) -> dict[str, Any]:
        """The keys of the recipe that decide tiles and pixels: all but focus_mpp."""
        recipe = self.manifest.recipe
        return {key: recipe[key] for key in recipe if key != "focus_mpp"}

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of each slide's file, by slide_id."""
        return {name: row["fingerprint"] for name, row in self.slides.items()}

    @property
    def scales(self) -> list[float]:
        """Configured scales, finest first (micrometres per pixel)."""
        return sorted(self.manifest.recipe["scales"])

    def choose_scale(self, wanted: float | None) -> float:
        """A scale of a job's config; None is the finest.

        Raises:
            InputError: no tiles at this scale.
        """
        if wanted is None:
            return self.scales[0]
        if wanted not in self.scales:
            have = ", ".join(f"{mpp:g}" for mpp in self.scales)
            raise InputError(f"scale: no tiles at {wanted:g} um/px; there are {have}")
        return wanted

    def read_chunk(self, slide_id: str, chunk: int) -> pa.Table:
        """Tiles of one chunk (a row group of the shard), sorted by (mpp, row, col)."""
        with pq.ParquetFile(shard_path(self.path, slide_id)) as file:
            return file.read_row_group(chunk)

    def read(self, slide_id: str) -> pa.Table:
        """Every planned tile of a slide, chunk by chunk."""
        return pq.read_table(shard_path(self.path, slide_id))
