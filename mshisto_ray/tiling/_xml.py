"""Annotated regions of XML: ASAP, Aperio ImageScope, Hamamatsu NDP.view (NDPA)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from mshisto_ray.slides import Frame

Element = Any
Regions = Iterator[tuple[str, BaseGeometry]]
# ImageScope writes the slide's own resolution, in six digits.
_SAME_MPP = 0.02
# Its types of region; a line, an arrow and a ruler have no area.
_RECTANGLE, _ELLIPSE, _OPEN = "1", "2", ("3", "4", "5")
# Of ASAP, types of several places without an area.
_POINTS = ("Dot", "PointSet", "Measurement")


class AnnotationError(Exception):
    """An annotation file cannot be used."""


def format_of(root: Element) -> tuple[str, Callable[[Element, Frame], Regions]] | None:
    """Name and reader of the format of a root element, None if unknown.

    A reader yields class and geometry of each region, in level-0 pixels. It raises
    ValueError, TypeError or KeyError where the content is not of the format, and
    AnnotationError where it is and cannot be placed on this slide.
    """
    known = {
        "ASAP_Annotations": ("ASAP XML", _asap),
        "Annotations": ("Aperio ImageScope XML", _imagescope),
        "annotations": ("Hamamatsu NDPA", _ndpa),
    }
    return known.get(root.tag)


def _asap(root: Element, frame: Frame) -> Regions:
    for annotation in root.iter("Annotation"):
        points = sorted(
            annotation.iter("Coordinate"), key=lambda c: int(c.get("Order"))
        )
        group = annotation.get("PartOfGroup")
        name = group if group and group != "None" else annotation.get("Name")
        corners = [(float(c.get("X")), float(c.get("Y"))) for c in points]
        if annotation.get("Type") in _POINTS:
            yield name, shapely.MultiPoint(corners)
        else:
            yield from _region(name, corners)


def _imagescope(root: Element, frame: Frame) -> Regions:
    """Layers of regions; those marked negative are cut out of the layer's others."""
    _check_resolution(root, frame)
    for layer in root.iter("Annotation"):
        drawn, cut = [], []
        for region in layer.iter("Region"):
            corners = [
                (float(v.get("X")), float(v.get("Y"))) for v in region.iter("Vertex")
            ]
            shape = _imagescope_shape(region.get("Type"), corners)
            if shape is None:
                continue
            if region.get("NegativeROA") == "1":
                cut.append(shapely.make_valid(shape))
            else:
                drawn.append((layer.get("Name") or region.get("Text"), shape))
        holes = shapely.union_all(cut)
        for name, shape in drawn:
            if cut:
                shape = shapely.make_valid(shape).difference(holes)
            yield name or "unnamed", shape


def _check_resolution(root: Element, frame: Frame) -> None:
    """Raise AnnotationError if it was drawn on pixels of another size."""
    drawn = float(root.get("MicronsPerPixel") or 0)
    if drawn <= 0 or frame.pixel_nm is None:
        return
    slide = frame.pixel_nm[0] / 1000
    if abs(drawn - slide) > _SAME_MPP * slide:
        raise AnnotationError(
            f"Aperio ImageScope XML of pixels of {drawn:g} um, and this slide's file "
            f"says {slide:.4g} um: drawn on another scan or export of the slide? Give "
            "that file, or export the annotation anew"
        )


def _imagescope_shape(
    kind: str | None, corners: list[tuple[float, float]]
) -> BaseGeometry | None:
    """The area of a region; rectangles and ellipses may be given by two corners."""
    if kind in _OPEN or len(corners) < 2:
        return None
    if kind == _ELLIPSE and len(corners) <= 4:
        left, top, right, bottom = shapely.MultiPoint(corners).bounds
        circle = shapely.Point(0.5, 0.5).buffer(0.5, quad_segs=32)
        size, corner = (right - left, bottom - top), (left, top)
        return shapely.transform(circle, lambda xy: xy * size + corner)
    if kind == _RECTANGLE and len(corners) == 2:
        return shapely.box(*shapely.MultiPoint(corners).bounds)
    return shapely.Polygon(corners) if len(corners) > 2 else None


def _ndpa(root: Element, frame: Frame) -> Regions:
    """Views, each with one annotation, in nanometres from the glass slide's centre."""
    if root.find("ndpviewstate") is None:
        return
    if frame.centre is None or frame.pixel_nm is None:
        raise AnnotationError(
            "Hamamatsu NDPA counts from the centre of the glass slide, which this "
            "slide's file does not record (an NDPI does): give the NDPI file, or "
            "export the annotation as GeoJSON from QuPath"
        )
    for view in root.iter("ndpviewstate"):
        unit = view.findtext("coordformat", "nanometers")
        if unit != "nanometers":
            raise AnnotationError(
                f"Hamamatsu NDPA in {unit}: only nanometers are read; export it anew"
            )
        for annotation in view.iter("annotation"):
            corners = [_from_centre(point, frame) for point in annotation.iter("point")]
            if annotation.get("type") == "circle":
                yield view.findtext("title") or "unnamed", _circle(annotation, frame)
            elif annotation.findtext("closed", "1") == "1":
                yield from _region(view.findtext("title"), corners)


def _from_centre(point: Element, frame: Frame) -> tuple[float, float]:
    """A place in level-0 pixels; the element holds x and y in nanometres."""
    assert frame.centre and frame.pixel_nm
    x, y = (float(point.findtext(axis)) for axis in "xy")
    return (
        frame.centre[0] + x / frame.pixel_nm[0],
        frame.centre[1] + y / frame.pixel_nm[1],
    )


def _circle(annotation: Element, frame: Frame) -> BaseGeometry:
    assert frame.pixel_nm
    x, y = _from_centre(annotation, frame)
    radius = float(annotation.findtext("radius")) / frame.pixel_nm[0]
    return shapely.Point(x, y).buffer(radius, quad_segs=32)


def _region(name: str | None, corners: Iterable[tuple[float, float]]) -> Regions:
    """One outline; points and lines have no area."""
    places = list(corners)
    if len(places) > 2:
        yield name or "unnamed", shapely.Polygon(places)
