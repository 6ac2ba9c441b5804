"""Annotated regions (ASAP XML, GeoJSON) and the class of each tile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import defusedxml
import defusedxml.ElementTree
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

# Outlines drawn by hand may cross the slide's edge.
_MAX_OUTSIDE = 0.01


class AnnotationError(Exception):
    """An annotation file cannot be used."""


@dataclass(frozen=True)
class Region:
    """One annotated region: its class and its polygon in level-0 pixels."""

    name: str
    polygon: BaseGeometry


def read_annotation(path: Path) -> list[Region]:
    """Regions of an ASAP XML or a GeoJSON file (as QuPath writes it).

    Points and lines have no area and are left out. ASAP's polygons take the class of
    their group, else their own name; GeoJSON features that of
    ``properties.classification.name``, else ``properties.name``.

    Raises:
        AnnotationError: not readable in the format of its file extension.
    """
    try:
        if path.suffix.lower() == ".xml":
            return _asap(path)
        return _geojson(path)
    except (
        KeyError,
        TypeError,
        AttributeError,  # another kind of JSON value where an object is expected
        ValueError,  # JSON, numbers, defusedxml's refusals
        defusedxml.ElementTree.ParseError,
        shapely.errors.ShapelyError,
    ) as error:
        raise AnnotationError(
            f"{path.name}: neither ASAP XML nor GeoJSON with polygons in level-0 "
            f"pixels ({type(error).__name__}: {error})"
        ) from None


def check_within(regions: Sequence[Region], size: tuple[int, int]) -> None:
    """Raise AnnotationError for regions that lie outside the slide.

    Args:
        regions: in level-0 pixels.
        size: slide width and height in level-0 pixels.

    Raises:
        AnnotationError: more than a hundredth of their area lies outside.
    """
    slide = shapely.box(0, 0, *size)
    whole = sum(region.polygon.area for region in regions)
    inside = sum(region.polygon.intersection(slide).area for region in regions)
    if whole - inside > _MAX_OUTSIDE * whole:
        raise AnnotationError(
            f"{1 - inside / whole:.0%} of the annotated area lies outside the slide "
            f"({size[0]} x {size[1]} px): the annotation of another slide, or not in "
            "level-0 pixels?"
        )


def scaled(regions: Sequence[Region], span: float) -> list[Region]:
    """Regions in units of ``span`` level-0 pixels."""
    polygons = shapely.transform([r.polygon for r in regions], lambda xy: xy / span)
    return [Region(r.name, p) for r, p in zip(regions, polygons, strict=True)]


def _asap(path: Path) -> list[Region]:
    root: Any = defusedxml.ElementTree.parse(path).getroot()
    regions = []
    for annotation in root.iter("Annotation"):
        points = sorted(
            annotation.iter("Coordinate"), key=lambda c: int(c.get("Order"))
        )
        if len(points) < 3:
            continue
        corners = [(float(c.get("X")), float(c.get("Y"))) for c in points]
        group = annotation.get("PartOfGroup")
        name = group if group and group != "None" else annotation.get("Name")
        regions.append(Region(name or "unnamed", _valid(shapely.Polygon(corners))))
    return regions


def _geojson(path: Path) -> list[Region]:
    content = json.loads(path.read_text())
    features = content["features"] if isinstance(content, dict) else content
    regions = []
    for feature in features:
        geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
        if geometry.area == 0:
            continue
        properties = feature.get("properties") or {}
        classified = properties.get("classification") or {}
        if isinstance(classified, str):
            classified = {"name": classified}
        name = classified.get("name") or properties.get("name") or "unnamed"
        regions.append(Region(name, _valid(geometry)))
    return regions


def _valid(geometry: BaseGeometry) -> BaseGeometry:
    # Hand-drawn outlines cross themselves; even-odd repair keeps their area.
    return geometry if geometry.is_valid else shapely.make_valid(geometry)


def annotate(
    regions: Sequence[Region], x: np.ndarray, y: np.ndarray, extent: float
) -> tuple[list[str | None], np.ndarray]:
    """Class of each tile and the share of the tile that this class covers.

    The class is that of the smallest region holding the tile's centre (a nest inside
    a tumour inside a specimen); a tile whose centre lies in none takes the class that
    covers most of it; None if no region touches it.

    Args:
        regions: annotated regions.
        x: [N] left edges, level-0 pixels.
        y: [N] top edges, level-0 pixels.
        extent: side of the tiles, level-0 pixels.

    Returns:
        N class names or None, and float32 [N] shares in [0, 1].
    """
    names: list[str | None] = [None] * len(x)
    covered = np.zeros(len(x), np.float32)
    if not regions or not len(x):
        return names, covered
    boxes = shapely.box(x, y, x + extent, y + extent)
    centres: Any = shapely.points(x + extent / 2, y + extent / 2)
    classes = sorted({region.name for region in regions})
    shares = np.stack([_share(regions, name, boxes) for name in classes], axis=1)
    polygons = np.array([region.polygon for region in regions])
    by_size = np.argsort([-p.area for p in polygons], kind="stable")
    choice = np.where(shares.max(axis=1) > 0, shares.argmax(axis=1), -1)
    tree = shapely.STRtree(centres)
    for index in by_size:  # largest first: smaller ones overwrite
        held = tree.query(polygons[index], predicate="intersects")
        choice[held] = classes.index(regions[index].name)
    for i in np.flatnonzero(choice >= 0):
        names[i] = classes[choice[i]]
        covered[i] = shares[i, choice[i]]
    return names, covered


def _share(regions: Sequence[Region], name: str, boxes: np.ndarray) -> np.ndarray:
    union = shapely.union_all([r.polygon for r in regions if r.name == name])
    share = np.zeros(len(boxes))
    touched = shapely.STRtree(boxes).query(union, predicate="intersects")
    overlap = shapely.area(shapely.intersection(boxes[touched], union))
    share[touched] = overlap / shapely.area(boxes[touched])
    return np.clip(share, 0, 1)
