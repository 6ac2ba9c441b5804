"""Drawing pairs from cohorts of more and more tiles: the cost of a pair."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mshisto_ray.components import Part
from mshisto_ray.contrastive.config import PretrainBlockConfig
from mshisto_ray.contrastive.pair_batches import pair_batches
from mshisto_ray.jobs.benchmarks._benchmark import Benchmark, Measure, interleaved
from mshisto_ray.training.blocks import plan_block
from mshisto_ray.training.tile_index import TileIndex, build_index

_SCALES = (0.5, 1.0, 2.0)
_SIDE, _TILE_UM = 100, 128.0  # of a slide, in tiles of the finest scale
_PAIRS = {
    "multi_scale": {
        "same_slide": "by_distance",
        "places_per_slide": 1,
        "slides_per_batch": 1,
        "far_um": 1500.0,
    },
    "spatial": {"near_um": 300.0, "far_um": 1500.0},
}
_MOST_GROWTH = 1.25
_BATCH, _BLOCKS = 256, 2
Tiles = Annotated[int, Field(ge=20_000)]


def build(
    *,
    tiles: Annotated[tuple[Tiles, ...], Field(min_length=2)] = (10**5, 10**6, 10**7),
    repeats: Annotated[int, Field(ge=1)] = 5,
) -> Benchmark:
    """CPU time to draw a pair, with its share of planning blocks and of relations.

    Args:
        tiles: of each cohort.
        repeats: times that each cohort is measured, in turns; the median ratio counts.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        del folder  # nothing is written
        cohorts = {num: _cohort(num) for num in sorted(tiles)}
        found: dict[str, Measure] = {}
        for num, index in cohorts.items():
            size = index.key.nbytes / len(index)
            found[f"sample.{num}.index"] = Measure(size, "bytes a tile")
        for name, options in _PAIRS.items():
            part = Part.model_validate({"name": name, **options})
            drawn = {num: _Draw(index, part) for num, index in cohorts.items()}
            seconds = interleaved(
                {str(num): draw for num, draw in drawn.items()}, repeats
            )
            first = seconds[str(min(tiles))]
            for num in cohorts:
                each = 1e6 * np.median(seconds[str(num)]) / drawn[num].num_pairs
                key = f"sample.{num}.{name}"
                found[key] = Measure(float(each), "CPU us/pair")
            growth = float(np.median(seconds[str(max(tiles))] / first))
            key = f"sample.{name}.growth"
            found[key] = Measure(growth, "x", None, _MOST_GROWTH, "at most")
        return found

    return measure


class _Draw:
    """Draws every batch of some blocks, as training does; pixels apart."""

    def __init__(self, index: TileIndex, pairs: Part):
        self._index, self._config = index, PretrainBlockConfig()
        self._make = pair_batches(pairs, _BATCH, None)
        steps = self._config.num_steps(_BATCH, self._config.tiles)
        self.num_pairs = _BLOCKS * steps * _BATCH // 2
        self._steps = steps

    def __call__(self) -> None:
        for number in range(_BLOCKS):
            chosen = plan_block(self._index, self._config, 0, number)
            source = self._make(self._index.subset(chosen), chosen)
            for step in range(self._steps):
                source.batch(0, step)


def _cohort(num_tiles: int) -> TileIndex:
    """An index of square slides at three scales."""
    sides = [_SIDE >> level for level in range(len(_SCALES))]
    num = math.ceil(num_tiles / sum(side**2 for side in sides))
    places = [np.divmod(np.arange(side**2), side) for side in sides]
    layers = {
        (slide, level): place
        for slide in range(num)
        for level, place in enumerate(places)
    }
    pitch = np.tile(_TILE_UM * 2.0 ** np.arange(len(_SCALES)), (num, 1))
    names = [f"slide_{slide}" for slide in range(num)]
    return build_index(layers, _SCALES, pitch, names, np.arange(num), np.full(num, -1))
