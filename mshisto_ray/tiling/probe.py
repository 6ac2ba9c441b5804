"""One slide tiled to see what tiling costs: its tiles, seconds and bytes."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.tiles import shard_path
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.slide import TiledSlide, tile_slide
from mshisto_ray.tiling.unit import write_pictures


@dataclass(frozen=True)
class TilingProbe:
    """A slide tiled as the job does it; ``num_bytes``: of its shard and pictures."""

    tiled: TiledSlide
    seconds: float
    num_bytes: int

    @property
    def tiles(self) -> dict[float, int]:
        """Planned tiles by scale (um/px)."""
        return dict(self.tiled.record["tiles_per_scale"])


def probe_tiling(row: CohortSlide, recipe: TilingRecipe, geojson: bool) -> TilingProbe:
    """Tile a slide into a temporary folder, which is removed again.

    Raises:
        SlideError: nothing of the slide can be used.
        OSError: the file cannot be reached.
    """
    started = time.perf_counter()
    tiled = tile_slide(row, recipe)
    with tempfile.TemporaryDirectory(prefix="mshisto-") as folder:
        out = Path(folder)
        write_shard(shard_path(out, row.slide_id), tiled.tiles)
        write_pictures(out, tiled, geojson)
        seconds = time.perf_counter() - started
        files = [path for path in out.rglob("*") if path.is_file()]
        return TilingProbe(tiled, seconds, sum(path.stat().st_size for path in files))
