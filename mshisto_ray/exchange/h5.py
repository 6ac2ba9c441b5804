"""HDF5 files of tile features as TRIDENT and CLAM lay them out.

Both keep ``features`` [N, D] and ``coords`` [N, 2], the level-0 pixels (x, y) of the
tiles' top-left corners. TRIDENT describes the tiles in attributes of ``coords``; CLAM
does so only in its files of coordinates, not in those of features.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from mshisto_ray.exchange._h5_file import H5Error, dataset, opened
from mshisto_ray.store.temporary import temporary_beside

Layout = Literal["trident", "clam"]

# Attributes added to theirs, in which a tile's size at level 0 is a whole number.
_MADE_FROM = "mshisto_made_from"
_EXTENT = "extent_level0"
_DTYPES = (np.float16, np.float32)


@dataclass(frozen=True)
class TileShape:
    """Size and spacing of the tiles of a file.

    Attributes:
        extent: level-0 pixels that a tile covers.
        step: level-0 pixels from a tile to the next; less than ``extent`` if tiles
            overlap.
        tile_px: side of a tile as it was embedded, None if it is not recorded.
    """

    extent: float
    step: float
    tile_px: int | None


@dataclass(frozen=True)
class H5Features:
    """Tiles of one slide: ``x``, ``y`` int64 [N]; ``values`` float16 or 32 [N, D]."""

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    shape: TileShape | None


def read_h5(path: Path) -> H5Features:
    """Features and coordinates of a slide's tiles, in the order of the file.

    Raises:
        H5Error: not in this layout, or values that cannot be kept exactly.
        OSError: the storage fails.
    """
    with opened(path, "`features` and `coords`") as file:
        coords, features = dataset(file, "coords"), dataset(file, "features")
        shape = _tile_shape(dict(coords.attrs))
        places, values = np.asarray(coords), np.asarray(features)
    # Some published features have a batch axis of one slide.
    places, values = (
        a[0] if a.ndim == 3 and len(a) == 1 else a for a in (places, values)
    )
    if not len(places):
        places, values = np.zeros((0, 2), np.int64), values.reshape(0, values.shape[-1])
    if values.ndim != 2 or places.shape != (len(values), 2):
        raise H5Error(
            "BadH5",
            f"{path.name}: features {values.shape} and coords {places.shape} are not "
            "[N, D] and [N, 2]: extract it again",
        )
    if values.dtype not in _DTYPES:
        raise H5Error(
            "BadH5",
            f"{path.name}: features of {values.dtype}; float16 and float32 can be kept "
            "exactly: save them as one of these",
        )
    whole = places.astype(np.int64)
    if not np.array_equal(whole, places) or (len(whole) and whole.min() < 0):
        raise H5Error(
            "BadPlaces",
            f"{path.name}: coords are not whole, non-negative level-0 pixels "
            "(micrometres, or another level's pixels?): give them in level-0 pixels",
        )
    return H5Features(whole[:, 0], whole[:, 1], values, shape)


def read_tile_shape(path: Path) -> TileShape | None:
    """Tile size and spacing of a file of coordinates; None if it records neither.

    Raises:
        H5Error: no HDF5 file with ``coords``.
    """
    with opened(path, "`coords`") as file:
        return _tile_shape(dict(dataset(file, "coords").attrs))


def width_of(path: Path) -> int:
    """Width D of a file's features, without reading them.

    Raises:
        H5Error: no HDF5 file with ``features``.
    """
    with opened(path, "`features`") as file:
        return int(dataset(file, "features").shape[-1])


def _tile_shape(attributes: Mapping[str, Any]) -> TileShape | None:
    found = _claimed_shape(attributes)
    if found is None:
        return None
    sizes = (found.extent, found.step, found.tile_px or 1)
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        raise H5Error(
            "BadH5",
            f"tiles of {found.extent:g} level-0 pixels, {found.step:g} apart, "
            f"{found.tile_px} px: no tile is that; extract it again",
        )
    return found


def _claimed_shape(attributes: Mapping[str, Any]) -> TileShape | None:
    if "patch_size_level0" in attributes:  # TRIDENT
        tile_px = int(attributes["patch_size"])
        extent = float(attributes.get(_EXTENT, attributes["patch_size_level0"]))
        overlap = int(attributes.get("overlap", 0))
        step = extent * (tile_px - overlap) / tile_px if tile_px else 0.0
        return TileShape(extent, step, tile_px)
    if "patch_level" in attributes:  # CLAM: pixels of that level; resizing unknown
        downsample = np.ravel(attributes.get("downsample", 1.0))
        if "downsample" not in attributes and int(attributes["patch_level"]):
            return None
        extent = float(attributes["patch_size"]) * float(downsample[0])
        extent = float(attributes.get(_EXTENT, extent))
        return TileShape(extent, extent, None)
    return None


def write_h5(
    path: Path,
    name: str,
    features: H5Features,
    mpp: float,
    layout: Layout,
    made_from: str,
) -> None:
    """Write a slide's features in the layout of TRIDENT or CLAM, atomically.

    Args:
        path: file to write; parent folders are created.
        name: of the slide.
        features: with ``shape`` known.
        mpp: scale, micrometres per pixel; TRIDENT's magnification is 10 over it.
        layout: decides the attributes; the data are the same.
        made_from: stored in the file, see ``read_made_from``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    assert features.shape
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs[_MADE_FROM] = made_from
            file.create_dataset("features", data=features.values)
            places = np.stack([features.x, features.y], axis=1)
            coords = file.create_dataset("coords", data=places)
            coords.attrs.update(_attributes(name, features.shape, mpp, layout))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_made_from(path: Path) -> str | None:
    """``made_from`` of a file that ``write_h5`` wrote; None if there is none."""
    if not path.is_file():
        return None
    try:
        with h5py.File(path) as file:
            found = file.attrs.get(_MADE_FROM)
    except OSError:
        return None
    return found if isinstance(found, str) else None


def _attributes(
    name: str, shape: TileShape, mpp: float, layout: Layout
) -> dict[str, Any]:
    extent = round(shape.extent)
    if layout == "clam":
        described = {"patch_size": extent, "patch_level": 0, "downsample": (1.0, 1.0)}
        return {**described, _EXTENT: shape.extent, "name": name}
    assert shape.tile_px
    magnification = 10 / mpp
    return {
        "patch_size": shape.tile_px,
        "patch_size_level0": extent,
        "level0_magnification": _whole(magnification * shape.extent / shape.tile_px),
        "target_magnification": _whole(magnification),
        "overlap": round(shape.tile_px * (1 - shape.step / shape.extent)),
        _EXTENT: shape.extent,
        "name": name,
    }


def _whole(value: float) -> int | float:
    return round(value) if abs(value - round(value)) < 1e-9 else value
