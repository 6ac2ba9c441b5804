"""HDF5 files of tile features as TRIDENT, CLAM and STAMP lay them out.

The first two keep ``features`` [N, D] and ``coords`` [N, 2], the level-0 pixels (x, y)
of the tiles' top-left corners. TRIDENT describes the tiles in attributes of ``coords``;
CLAM does so only in its files of coordinates, not in those of features. STAMP 2 keeps
``feats``, and ``coords`` in micrometres, with attributes of the file.
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
# Of STAMP: side of a tile in micrometres, since version 2.1 and before.
_SIDE_UM, _SIDE_UM_FIRST = "tile_size_um", "tile_size"


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
    """Tiles of one slide: ``x``, ``y`` int64 [N]; ``values`` float16 or 32 [N, D].

    ``in_um``: places and shape are in micrometres, and ``x``, ``y`` float64.
    """

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    shape: TileShape | None
    in_um: bool = False

    def on_pixels(self, mpp: float) -> H5Features:
        """Places and shape in level-0 pixels, of ``mpp`` micrometres each."""
        if not self.in_um:
            return self
        assert self.shape
        x, y = (np.rint(v / mpp).astype(np.int64) for v in (self.x, self.y))
        extent, step = self.shape.extent / mpp, self.shape.step / mpp
        shape = TileShape(extent, step, self.shape.tile_px)
        return H5Features(x, y, self.values, shape)


def read_h5(path: Path) -> H5Features:
    """Features and coordinates of a slide's tiles, in the order of the file.

    Raises:
        H5Error: not in this layout, or values that cannot be kept exactly.
        OSError: the storage fails.
    """
    with opened(path, "`features` and `coords`") as file:
        coords, features = dataset(file, "coords"), dataset(file, _named(file))
        in_um = _is_stamp(file)
        shape = _tile_shape(dict(file.attrs if in_um else coords.attrs))
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
    if in_um:
        x, y = places.astype(np.float64).T
        if not np.isfinite(places).all() or (len(x) and places.min() < 0):
            raise H5Error("BadPlaces", f"{path.name}: coords are no places in um")
        return H5Features(x, y, values, shape, in_um)
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
        return int(dataset(file, _named(file)).shape[-1])


def _named(file: h5py.File) -> str:
    """Name of the features: STAMP's, where it is there alone."""
    return "feats" if "feats" in file and "features" not in file else "features"


def _is_stamp(file: h5py.File) -> bool:
    """Whether a file is of STAMP 2, with places in micrometres."""
    return _named(file) == "feats" and (
        _SIDE_UM in file.attrs
        or (_SIDE_UM_FIRST in file.attrs and file.attrs.get("unit") == "um")
    )


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
    side = attributes.get(_SIDE_UM, attributes.get(_SIDE_UM_FIRST))
    if side is not None:  # STAMP, in micrometres; its tiles do not overlap
        tile_px = int(attributes.get("tile_size_px", 0))
        return TileShape(float(side), float(side), tile_px or None)
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
