"""Whether attention finds what was planted: scores of tiles against annotations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mshisto_ray.learning.metrics import auroc
from mshisto_ray.store.shards import match_tiles
from mshisto_ray.store.tiles import TileDirectory

_IDENTITY = ("slide_id", "mpp", "row", "col")


@dataclass(frozen=True)
class Localisation:
    """AUROC of a score against annotated tiles, a value per slide.

    ``per_slide``: {slide_id: AUROC} of the slides that hold tiles of both kinds.
    """

    per_slide: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over slides; NaN without any."""
        values = list(self.per_slide.values())
        return float(np.mean(values)) if values else float("nan")


def localise(
    predictions: Path, tiles: TileDirectory, name: str, column: str = "attention"
) -> Localisation:
    """AUROC, slide by slide, of a predictions directory's scores.

    Within one slide, so that it says where the model looks, not which slide it
    calls positive.

    Args:
        predictions: directory that jobs/predict.py made.
        tiles: the tiles with their annotations.
        name: class of annotation that makes a tile a positive one.
        column: score of the tiles.
    """
    found = {}
    for path in sorted((predictions / "shards").glob("*.parquet")):
        scores = pq.read_table(path)
        for slide_id in sorted(set(scores["slide_id"].to_pylist())):
            part = scores.filter(np.array(scores["slide_id"].to_pylist()) == slide_id)
            planned = tiles.read(slide_id)
            index = match_tiles(_identity(part), _identity(planned))
            names = np.array(planned["annotation"].to_pylist(), dtype=object)[index]
            truth = (names == name).astype(np.int64)
            if 0 < truth.sum() < len(truth):
                values = part[column].to_numpy()
                pairs = np.stack([-values, values], axis=1)
                found[slide_id] = auroc(pairs, truth)
    return Localisation(found)


def _identity(table) -> Iterable[np.ndarray]:
    return [np.array(table[name].to_pylist(), dtype=object) for name in _IDENTITY]
