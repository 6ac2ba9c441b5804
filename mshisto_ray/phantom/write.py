"""Write phantom slides as pyramidal JPEG TIFFs, their truth as ASAP XML, the cohort."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import tifffile

from mshisto_ray.phantom.config import FINE_PER_COARSE, PhantomConfig
from mshisto_ray.phantom.draw import draw
from mshisto_ray.phantom.layout import (
    CONTEXT_A,
    Layout,
    patient_labels,
    patient_of,
    plan,
)

# Annotation groups and their colours in ASAP.
_GROUPS = {
    "coarse_context": "#64FE2E",
    "fine_sign": "#F4FA58",
    "relation_sign": "#0080FF",
}


def write_cohort(config: PhantomConfig, out: Path) -> Path:
    """Write every slide, its annotation and ``cohort.csv``; returns the latter's path.

    Paths in the table are relative to it; a slide's mpp is in the slide alone.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = [write_slide(config, slide, out) for slide in range(config.num_slides)]
    path = out / "cohort.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_slide(config: PhantomConfig, slide: int, out: Path) -> dict[str, str]:
    """Write one slide and its annotation into ``out``; returns its cohort row.

    Depends on (config, slide) alone: slides may be written in any order or process.
    """
    name = f"slide_{slide:04d}"
    layout = plan(config, slide)
    for folder in ("slides", "annotations"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _write_tiff(config, draw(config, slide, layout), out / "slides" / f"{name}.tiff")
    _write_asap(config, layout, out / "annotations" / f"{name}.xml")
    patient = patient_of(config, slide)
    labels = patient_labels(config, patient)
    return {
        "slide_id": name,
        "patient_id": f"patient_{patient:04d}",
        "path": f"slides/{name}.tiff",
        "annotation": f"annotations/{name}.xml",
        **{key: "positive" if value else "negative" for key, value in labels.items()},
    }


def truth(config: PhantomConfig, slide: int) -> pd.DataFrame:
    """A table of what is planted in each tile of a slide, from the plan alone.

    Columns ``mpp, row, col``; ``tissue``, its share; and bool ``coarse_context``
    (coarse tiles alone), ``fine_sign``, ``relation_sign`` (also of the tiles that
    contain one).
    """
    layout = plan(config, slide)
    frames = []
    for mpp, side in zip(config.scales, (1, 2, FINE_PER_COARSE), strict=True):
        tissue = _blocks(layout.tissue, side).mean(axis=(1, 3))
        row, col = np.indices(tissue.shape)
        context = np.zeros(tissue.shape, bool)
        if side == FINE_PER_COARSE:
            context = layout.context == CONTEXT_A
        columns = {
            "row": row,
            "col": col,
            "tissue": tissue,
            "coarse_context": context,
            "fine_sign": _blocks(layout.fine_sign, side).any(axis=(1, 3)),
            "relation_sign": _blocks(layout.relation_sign, side).any(axis=(1, 3)),
        }
        frame = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
        frame.insert(0, "mpp", mpp)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _blocks(values: np.ndarray, side: int) -> np.ndarray:
    rows, cols = (length // side for length in values.shape)
    return values.reshape(rows, side, cols, side)


def _write_tiff(config: PhantomConfig, pixels: np.ndarray, path: Path) -> None:
    """Write a generic pyramidal TIFF; each level is the 2 x 2 mean of the one before.

    Chroma is not subsampled: that would blur a diagonal of grains more than a pair
    side by side, and so reveal the signs by colour.
    """
    per_cm = 10_000 / config.mpp
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(_pyramid(pixels, config.native_tile)):
            tiff.write(
                level,
                photometric="rgb",
                subsampling=(1, 1),
                tile=(config.native_tile, config.native_tile),
                compression="jpeg",
                compressionargs={"level": config.quality},
                resolution=(per_cm / 2**number, per_cm / 2**number),
                resolutionunit="CENTIMETER",
                subfiletype=1 if number else 0,
                metadata=None,
                software="mshisto_ray phantom",
            )


def _pyramid(pixels: np.ndarray, least: int) -> Iterator[np.ndarray]:
    """Levels x1, x2, x4, ..., at least three, down to about a native tile."""
    level, number = pixels.astype(np.float32), 0
    while True:
        yield np.rint(level).astype(np.uint8)
        side, number = level.shape[0] // 2, number + 1
        if number > 2 and (side < least or level.shape[0] % 2):
            return
        # Exact in float32 in any order, and faster than a mean over two axes.
        level = level[::2] + level[1::2]
        level = (level[:, ::2] + level[:, 1::2]) / 4


def _write_asap(config: PhantomConfig, layout: Layout, path: Path) -> None:
    """Write squares of the planted tiles, in level-0 pixels, one group per sign."""
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    coarse = FINE_PER_COARSE * config.tile_px
    planted = {
        "coarse_context": (layout.context == CONTEXT_A, coarse),
        "fine_sign": (layout.fine_sign, config.tile_px),
        "relation_sign": (layout.relation_sign, config.tile_px),
    }
    for group, (tiles, side) in planted.items():
        for row, col in np.argwhere(tiles):
            annotation = ElementTree.SubElement(
                annotations,
                "Annotation",
                Name=f"{group} {row} {col}",
                Type="Polygon",
                PartOfGroup=group,
                Color=_GROUPS[group],
            )
            coordinates = ElementTree.SubElement(annotation, "Coordinates")
            corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
            for order, (right, down) in enumerate(corners):
                ElementTree.SubElement(
                    coordinates,
                    "Coordinate",
                    Order=str(order),
                    X=str((col + right) * side),
                    Y=str((row + down) * side),
                )
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for name, colour in _GROUPS.items():
        group = ElementTree.SubElement(
            groups, "Group", Name=name, PartOfGroup="None", Color=colour
        )
        ElementTree.SubElement(group, "Attributes")
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
