"""Scores of tiles as GeoJSON, which QuPath opens over the slide."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mshisto_ray.store.manifest import write_text


def write_tiles(
    path: Path,
    x: np.ndarray,
    y: np.ndarray,
    extent: np.ndarray,
    scores: Mapping[str, np.ndarray],
) -> None:
    """Write tiles as QuPath's tile objects with measurements.

    In QuPath: File, Import objects from file; then Measure, Show measurement maps
    colours the tiles by a score.

    Args:
        path: file to make; parents are made.
        x: level-0 pixels of the tiles' left edges, [N].
        y: level-0 pixels of their top edges, [N].
        extent: level-0 pixels they cover, [N].
        scores: [N] by name; NaN where a tile has none, which is then left out.
    """
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    start = np.stack([x, y], 1).astype(float)
    rings = start[:, None] + corners * np.asarray(extent, float)[:, None, None]
    features = []
    for i, ring in enumerate(rings.round(2).tolist()):
        values = {name: float(column[i]) for name, column in scores.items()}
        known = {name: value for name, value in values.items() if value == value}
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"objectType": "tile", "measurements": known},
            }
        )
    content = {"type": "FeatureCollection", "features": features}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content))
