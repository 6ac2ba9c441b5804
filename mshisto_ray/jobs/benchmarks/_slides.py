"""Slides to measure on: drawn tissue in the layouts that scanners write."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile

from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.draw import draw
from mshisto_ray.phantom.layout import plan

_SIDE_PX = 4096
_QUALITY = 70  # Aperio's default
# name: native tile, levels' downsamples, mpp, targets
_LAYOUTS = {
    "20x_256": (256, (1, 2, 4), 0.5, {"exact": 4.5}),
    "20x_240": (240, (1, 2, 4), 0.5, {"exact": 3.7}),
    "40x_240": (240, (1, 4, 16), 0.25, {"exact": 6.0, "scaled": 8.0}),
    "40x_256": (256, (1, 4, 16), 0.25, {"exact": 6.0, "scaled": 8.0}),
}


@dataclass(frozen=True)
class MadeSlide:
    """A slide to measure; ``targets`` of its ways of reading, by name."""

    name: str
    path: Path
    mpp: float
    targets: Mapping[str, float]


def make_slides(
    folder: Path, names: tuple[str, ...] = tuple(_LAYOUTS)
) -> list[MadeSlide]:
    """Write one slide per layout into ``folder``, unless already there."""
    folder.mkdir(parents=True, exist_ok=True)
    config = PhantomConfig(num_patients=2, slides_per_patient=1, size=_SIDE_PX)
    tissue: dict[float, np.ndarray] = {}
    slides = []
    for name in names:
        tile, downsamples, mpp, targets = _LAYOUTS[name]
        path = folder / f"{name}.tiff"
        if not path.is_file():
            if not tissue:
                quarter = _all_tissue(draw(config, 0, plan(config, 0)))
                side = (2 * _SIDE_PX, 2 * _SIDE_PX)
                tissue = {
                    0.5: np.tile(quarter, (2, 2, 1)),
                    0.25: cv2.resize(quarter, side),
                }
            _write(path, tissue[mpp], tile, downsamples, mpp)
        slides.append(MadeSlide(name, path, mpp, targets))
    return slides


def make_repeated(folder: Path, side: int) -> Path:
    """Write a slide of all tissue, ``side`` px wide and high, at 0.5 um/px, 3 levels.

    The encoded tiles of a small slide are repeated, so that its size costs no
    encoding: 40,960 px take seconds. ``side`` is a multiple of 1024.
    """
    path = folder / f"repeated_{side}.tiff"
    if path.is_file():
        return path
    (small,) = make_slides(folder, ("20x_256",))
    part = path.with_suffix(".part")
    with tifffile.TiffFile(small.path) as source, tifffile.TiffWriter(part) as tiff:
        for number, page in enumerate(source.pages):
            assert isinstance(page, tifffile.TiffPage)
            size = side >> number
            per_cm = 1e4 / small.mpp / 2**number
            tiff.write(
                _repeat(page, -(-size // page.tilewidth)),
                shape=(size, size, 3),
                dtype=np.uint8,
                photometric="ycbcr",
                subsampling=page.subsampling,
                tile=(page.tilelength, page.tilewidth),
                compression="jpeg",
                jpegtables=page.jpegtables,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=int(number > 0),
                metadata=None,
            )
    part.rename(path)
    return path


def _repeat(page: tifffile.TiffPage, across: int) -> Iterator[bytes]:
    """Encoded tiles of ``across`` x ``across``, row by row."""
    file = page.parent.filehandle.fileno()
    places = zip(page.databytecounts, page.dataoffsets, strict=True)
    tiles = [os.pread(file, size, offset) for size, offset in places]
    columns = -(-page.imagewidth // page.tilewidth)
    rows = -(-page.imagelength // page.tilelength)
    for row in range(across):
        for col in range(across):
            yield tiles[row % rows * columns + col % columns]


def _all_tissue(drawn: np.ndarray) -> np.ndarray:
    """The middle quarter, mirrored to full size: glass would cost less."""
    quarter = _SIDE_PX // 4
    middle = drawn[quarter : 3 * quarter, quarter : 3 * quarter]
    upper = np.concatenate([middle, middle[:, ::-1]], axis=1)
    return np.concatenate([upper, upper[::-1]])


def _write(
    path: Path, pixels: np.ndarray, tile: int, downsamples: tuple[int, ...], mpp: float
) -> None:
    part, per_cm = path.with_suffix(".part"), 1e4 / mpp
    with tifffile.TiffWriter(part) as tiff:
        for downsample in downsamples:
            size = (pixels.shape[1] // downsample, pixels.shape[0] // downsample)
            level = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            tiff.write(
                level,
                photometric="rgb",
                tile=(tile, tile),
                compression="jpeg",
                compressionargs={"level": _QUALITY},
                resolution=(per_cm / downsample, per_cm / downsample),
                resolutionunit="CENTIMETER",
                subfiletype=int(downsample > 1),
                metadata=None,
            )
    part.rename(path)
