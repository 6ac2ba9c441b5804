"""Annotated regions of GeoJSON, as QuPath and others write it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry


def read(content: bytes) -> Iterator[tuple[str, BaseGeometry]]:
    """Class and geometry of each feature: of a collection, a list, or one alone.

    The class is QuPath's, else the feature's own name, label or class.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: not GeoJSON.
        shapely.errors.ShapelyError: not a geometry.
    """
    # From bytes: with or without a byte order mark, in UTF-8 or UTF-16.
    for feature in _features(json.loads(content)):
        if feature["geometry"] is None:  # a feature without a place is allowed
            continue
        geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
        yield _name(feature.get("properties") or {}), geometry


def _features(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    if content.get("type") == "Feature":
        return [content]
    if "features" in content:
        return content["features"]
    if "coordinates" in content or "geometries" in content:
        return [{"geometry": content}]
    raise KeyError("features")


def _name(properties: Mapping[str, Any]) -> str:
    classified = properties.get("classification") or {}
    if not isinstance(classified, Mapping):
        classified = {"name": classified}
    # QuPath writes a derived class as the list of its parts, and shows them so.
    name = classified.get("name") or ": ".join(map(str, classified.get("names") or []))
    own = (properties.get(key) for key in ("name", "label", "class"))
    return str(name or next(filter(None, own), "unnamed"))
