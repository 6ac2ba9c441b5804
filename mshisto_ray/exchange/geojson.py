"""Tiles, scores and tissue as GeoJSON, which QuPath opens over the slide.

In QuPath: File, Import objects from file. Coordinates are level-0 pixels, as in
QuPath's own export, and not the longitudes and latitudes of RFC 7946. They count from
the corner of the scanned area, ``origin``: QuPath shows this area alone. QuPath imports
nothing of a file in which a class has no colour.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from mshisto_ray.store.manifest import write_text

TISSUE = "tissue"
_TISSUE_COLOUR = [0, 160, 80]
# Of classes, in their order (Okabe and Ito 2008: distinct to the colour-blind too).
_COLOURS = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167],
            [213, 94, 0], [86, 180, 233], [240, 228, 66]]  # fmt: skip


def write_tiles(
    path: Path,
    x: np.ndarray,
    y: np.ndarray,
    extent: np.ndarray,
    scores: Mapping[str, np.ndarray],
    classes: Sequence[str] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> None:
    """Write tiles as QuPath's tile objects with measurements.

    In QuPath, Measure, Show measurement maps colours the tiles by a score.

    Args:
        path: file to write; parent folders are created.
        x: level-0 pixels of the tiles' left edges, [N].
        y: level-0 pixels of their top edges, [N].
        extent: level-0 pixels they cover, [N].
        scores: [N] by name; NaN where a tile has none, which is then left out.
        classes: class of each tile, by which QuPath shows and hides them.
        origin: level-0 pixels of the scanned area's corner.
    """
    names = dict.fromkeys(classes or ())
    colours = dict(zip(names, itertools.cycle(_COLOURS)))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    start = np.stack([x, y], 1).astype(float) - origin
    rings = start[:, None] + corners * np.asarray(extent, float)[:, None, None]
    features = []
    for i, ring in enumerate(rings.round(2).tolist()):
        values = {name: float(column[i]) for name, column in scores.items()}
        known = {name: value for name, value in values.items() if value == value}
        properties: dict[str, Any] = {"objectType": "tile", "measurements": known}
        if classes is not None:
            colour = colours[classes[i]]
            properties["classification"] = {"name": classes[i], "color": colour}
        features.append(
            _feature({"type": "Polygon", "coordinates": [ring]}, properties)
        )
    _write(path, features)


def write_tissue(
    path: Path,
    tissue: np.ndarray,
    span: float,
    size: tuple[int, int],
    origin: tuple[int, int] = (0, 0),
) -> None:
    """Write a tissue mask as annotations, one per piece, with its holes.

    Args:
        path: file to write; parent folders are created.
        tissue: bool [h, w] over the slide from its corner (0, 0).
        span: level-0 pixels per mask pixel.
        size: slide width and height in level-0 pixels; what lies beyond is cut off.
        origin: level-0 pixels of the scanned area's corner.
    """
    properties = {
        "objectType": "annotation",
        "classification": {"name": TISSUE, "color": _TISSUE_COLOUR},
    }
    pieces = mask_polygons(tissue, span, size)
    moved = (shapely.transform(piece, lambda xy: xy - origin) for piece in pieces)
    shapes = (json.loads(shapely.to_geojson(piece)) for piece in moved)
    _write(path, [_feature(shape, properties) for shape in shapes])


@dataclass(frozen=True)
class FoundObject:
    """A region or point of a class, in level-0 pixels, with its measurements."""

    name: str
    geometry: BaseGeometry
    measurements: Mapping[str, float]


def write_objects(
    path: Path,
    objects: Sequence[FoundObject],
    classes: Sequence[str],
    origin: tuple[int, int] = (0, 0),
) -> None:
    """Write regions as annotations and points as detections.

    Args:
        path: file to write; parent folders are created.
        objects: to write.
        classes: all that there may be, in order: each keeps its colour from slide to
            slide.
        origin: level-0 pixels of the scanned area's corner.
    """
    colours = dict(zip(classes, itertools.cycle(_COLOURS)))
    features = []
    for found in objects:
        moved = shapely.transform(found.geometry, lambda xy: (xy - origin).round(2))
        is_point = moved.geom_type == "Point"
        properties = {
            "objectType": "detection" if is_point else "annotation",
            "classification": {"name": found.name, "color": colours[found.name]},
            "measurements": dict(found.measurements),
        }
        features.append(_feature(json.loads(shapely.to_geojson(moved)), properties))
    _write(path, features)


def mask_polygons(
    mask: np.ndarray, span: float, size: tuple[int, int]
) -> list[BaseGeometry]:
    """The pixels of a mask as polygons with holes, in level-0 pixels.

    Exact: a pixel's centre lies in a polygon if the pixel is set, and areas agree.
    """
    boxes = np.array(list(_rectangles(mask)), float).reshape(-1, 4) * span
    whole = shapely.union_all(shapely.box(*boxes.T))
    whole = shapely.intersection(whole, shapely.box(0, 0, *size))
    parts = shapely.get_parts(whole)
    return [part for part in parts if part.area > 0]


def _rectangles(mask: np.ndarray) -> Iterable[tuple[int, int, int, int]]:
    """Runs of set pixels (left, top, right, bottom); equal ones of rows are merged."""
    edges = np.diff(np.pad(mask, ((0, 1), (1, 1))).astype(np.int8), axis=1)
    open_runs: dict[tuple[int, int], int] = {}
    for row, line in enumerate(edges):
        starts, stops = np.flatnonzero(line == 1), np.flatnonzero(line == -1)
        runs = set(zip(starts.tolist(), stops.tolist(), strict=True))
        for run in [run for run in open_runs if run not in runs]:
            yield run[0], open_runs.pop(run), run[1], row
        for run in runs:
            open_runs.setdefault(run, row)


def _feature(geometry: Any, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": dict(properties)}


def _write(path: Path, features: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"type": "FeatureCollection", "features": features}))
