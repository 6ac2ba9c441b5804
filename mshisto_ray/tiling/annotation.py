"""Annotated regions, drawn in other software, and the class of each tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import defusedxml
import defusedxml.ElementTree
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from mshisto_ray.slides import Frame
from mshisto_ray.store.spelling import explain_clashes
from mshisto_ray.tiling import _geojson, _xml
from mshisto_ray.tiling._xml import AnnotationError

__all__ = [
    "AnnotationError",
    "Region",
    "annotate",
    "check_within",
    "outlines_of",
    "read_annotation",
    "scaled",
]

# Outlines drawn by hand may cross the slide's edge.
_MAX_OUTSIDE = 0.01
# Byte order marks, blanks, and the zeros of UTF-16.
_BEFORE_XML = b"\xef\xbb\xbf\xff\xfe \t\r\n\0"


@dataclass(frozen=True)
class Region:
    """One annotated region: its class and its polygon in level-0 pixels."""

    name: str
    polygon: BaseGeometry


def read_annotation(path: Path, frame: Frame | None = None) -> list[Region]:
    """Regions of an ASAP, ImageScope or NDPA XML file, or of a GeoJSON file.

    Points and lines have no area and are left out. ASAP's polygons take the class of
    their group, else their own name; ImageScope's that of their layer, else their
    text; NDPA's their title; GeoJSON features their QuPath class, else their name,
    label or class.

    Coordinates are level-0 pixels of the slide's plane in ASAP and ImageScope files,
    and of the area that QuPath shows, from its corner, in GeoJSON; nanometres from
    the centre of the glass slide in NDPA files.

    Args:
        path: the file; its content decides, not its ending.
        frame: of its slide; None: QuPath shows the whole plane.

    Raises:
        AnnotationError: none of these formats, not readable, without any area, of
            another resolution, with one class in two spellings, or with two classes of
            one outline.
    """
    size = frame.size if frame else (0, 0)
    try:
        return _regions(path.read_bytes(), frame or Frame(size, (0, 0), size))
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from None
    except (
        KeyError,
        TypeError,
        AttributeError,  # another kind of JSON value where an object is expected
        ValueError,  # JSON, numbers, text that is no UTF-8, defusedxml's refusals
        defusedxml.ElementTree.ParseError,
        shapely.errors.ShapelyError,
    ) as error:
        raise AnnotationError(
            f"{path.name}: neither ASAP XML nor ImageScope XML, NDPA or GeoJSON with "
            f"polygons ({type(error).__name__}: {error})"
        ) from None


def outlines_of(regions: Sequence[Region]) -> list[tuple[str, np.ndarray]]:
    """Class and points [N, 2], in level-0 pixels, of every ring, inner ones too."""
    return [
        (region.name, shapely.get_coordinates(ring))
        for region in regions
        for polygon in shapely.get_parts(region.polygon)
        for ring in shapely.get_rings(polygon)
    ]


def _regions(content: bytes, frame: Frame) -> list[Region]:
    if content.lstrip(_BEFORE_XML).startswith(b"<"):
        root: Any = defusedxml.ElementTree.fromstring(content)
        known = _xml.format_of(root)
        if known is None:
            raise AnnotationError(
                f"XML with root element {root.tag}: neither ASAP XML nor ImageScope "
                "XML or NDPA; export it as GeoJSON"
            )
        found, read = known
        shapes, origin = list(read(root, frame)), (0, 0)
    else:
        found, shapes, origin = "GeoJSON", list(_geojson.read(content)), frame.origin
    areas = [
        Region(name.strip() or "unnamed", _area(shape, origin))
        for name, shape in shapes
    ]
    regions = [region for region in areas if region.polygon.area > 0]
    clashes = explain_clashes("classes", [region.name for region in regions])
    if clashes:
        raise AnnotationError(clashes[0])
    _check_contradictions(regions)
    if not regions:
        raise AnnotationError(
            f"{found} without any polygon ({len(shapes)} other shapes): outline areas "
            "in it, or leave the slide's annotation empty"
        )
    return regions


def _check_contradictions(regions: Sequence[Region]) -> None:
    """Raise AnnotationError for one outline of two classes: a tile has one class."""
    classes: dict[bytes, str] = {}
    for region in regions:
        outline = shapely.to_wkb(shapely.normalize(region.polygon))
        name = classes.setdefault(outline, region.name)
        if name != region.name:
            raise AnnotationError(
                f"one outline has two classes, {name!r} and {region.name!r}: a tile "
                "has one; keep one of them"
            )


def check_within(regions: Sequence[Region], frame: Frame) -> None:
    """Raise AnnotationError for regions that lie outside the scanned area.

    Args:
        regions: in level-0 pixels.
        frame: of the slide.

    Raises:
        AnnotationError: more than a hundredth of their area lies outside.
    """
    (left, top), (width, height) = frame.origin, frame.shown
    shown = shapely.box(left, top, left + width, top + height)
    whole = sum(region.polygon.area for region in regions)
    inside = sum(region.polygon.intersection(shown).area for region in regions)
    if whole - inside > _MAX_OUTSIDE * whole:
        counted = "" if frame.origin == (0, 0) else (
            f" from ({left}, {top}) of its plane, where GeoJSON counts from"
        )  # fmt: skip
        raise AnnotationError(
            f"{1 - inside / whole:.0%} of the annotated area lies outside the slide "
            f"({width} x {height} px{counted}): the annotation of another slide, or "
            "not in level-0 pixels?"
        )


def scaled(regions: Sequence[Region], span: float) -> list[Region]:
    """Regions in units of ``span`` level-0 pixels."""
    polygons = shapely.transform([r.polygon for r in regions], lambda xy: xy / span)
    return [Region(r.name, p) for r, p in zip(regions, polygons, strict=True)]


def _area(geometry: BaseGeometry, origin: tuple[int, int]) -> BaseGeometry:
    """The polygons of a geometry, repaired and moved by ``origin``; may be empty.

    Hand-drawn outlines cross themselves; even-odd repair keeps their area.
    """
    flat = shapely.force_2d(geometry)
    valid = flat if flat.is_valid else shapely.make_valid(flat)
    parts = shapely.get_parts(shapely.get_parts(valid))
    polygons = [part for part in parts if part.geom_type == "Polygon"]
    whole = polygons[0] if len(polygons) == 1 else shapely.union_all(polygons)
    return shapely.transform(whole, lambda xy: xy + origin) if any(origin) else whole


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
