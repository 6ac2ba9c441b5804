"""Reading the tiles of a cohort, each with its class, and notes on what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.evaluation.labelled_tiles import (
    ANNOTATION,
    NO_CLASS,
    UNANNOTATED,
    LabelConfig,
    LabelledTiles,
)
from mshisto_ray.evaluation.tile_set import TileSet, check_same_tiles, read_tile_set
from mshisto_ray.store.cohort import Cohort, CohortSlide
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.tiles import TileDirectory


def read_labelled_tiles(
    tiles: TileDirectory,
    encoders: Mapping[str, EmbeddingDirectory],
    mpp: float,
    cohort: Cohort | None,
    label: LabelConfig,
    site_column: str | None,
) -> LabelledTiles:
    """Read own tiles at a scale that every encoder has embedded and that have a class.

    Args:
        tiles: the tiles.
        encoders: embeddings of them, by name.
        mpp: scale.
        cohort: slides to use, their patients, sites and labels; None: all, as tiled.
        label: where the class of a tile comes from.
        site_column: column of the cohort; None: sites are not used.

    Raises:
        InputError: embeddings of other tiles, no slide in common, an unknown column,
            no label at all, or a single class.
    """
    check_same_tiles(tiles, encoders)
    rows, notes = _slides(tiles, encoders, cohort)
    sites = _column(cohort, site_column, "exclude.site_column") if site_column else {}
    missing = sorted(s for s in rows if site_column and sites.get(s) is None)
    if missing:
        raise InputError(
            f"exclude.site_column: {site_column!r} is empty for {len(missing)} slides "
            f"({', '.join(missing[:3])}); fill it in, or exclude by patient"
        )
    keys = {s: (sites.get(s) or "", patient, s) for s, patient in rows.items()}
    slide_ids = sorted(rows, key=keys.__getitem__)
    tile_set = read_tile_set(tiles, encoders, slide_ids, mpp)
    if label.column is None:
        names, more = np.full(len(tile_set), NO_CLASS, object), []
    elif label.column == ANNOTATION:
        names, more = _annotated(tile_set, label, tiles)
    else:
        by_slide = _column(cohort, label.column, "label.column")
        names = np.array([by_slide[s] for s in slide_ids], object)[tile_set.slide]
        more = _count(_is_none(names), f"their slide has no {label.column}")
    padded = _padded(tile_set, tiles) > label.most_padded
    more += _count(
        padded & ~_is_none(names),
        f"more than {label.most_padded:g} of each is beyond the slide's edge, padded "
        "white (label.most_padded)",
    )
    keep = ~_is_none(names) & ~padded
    return _assemble(tile_set.select(keep), names[keep], keys, label, notes + more)


def _padded(tile_set: TileSet, tiles: TileDirectory) -> np.ndarray:
    """Share of each tile [N] that lies beyond the right and lower edge of its slide."""
    records = [tiles.slides[slide_id] for slide_id in tile_set.slide_ids]
    inside = np.ones(len(tile_set))
    for axis, name in enumerate(("width", "height")):
        size = np.array([record[name] * record["mpp"] for record in records])
        start = tile_set.centre[:, axis] - tile_set.side / 2
        inside *= np.clip((size[tile_set.slide] - start) / tile_set.side, 0, 1)
    return 1 - inside


def _assemble(
    tile_set: TileSet,
    names: np.ndarray,
    keys: Mapping[str, tuple[str, str, str]],
    label: LabelConfig,
    notes: Sequence[str],
) -> LabelledTiles:
    classes, code = np.unique(names.astype(str), return_inverse=True)
    if label.column is not None and len(classes) < 2:
        what = f"are of class {str(classes[0])!r}" if len(classes) else "have no class"
        raise InputError(
            f"label.column={label.column!r}: all {len(names):,} tiles {what}; "
            "retrieval needs two classes or more; null evaluates spatial pairs and "
            "parents only"
        )
    slide_ids = tile_set.slide_ids
    site = np.unique([keys[s][0] for s in slide_ids], return_inverse=True)[1]
    # Patients in the order of (site, patient): their numbers rise with the rows.
    pairs = sorted({keys[s][:2] for s in slide_ids})
    patient = np.array([pairs.index(keys[s][:2]) for s in slide_ids])
    return LabelledTiles(
        tile_set,
        code,
        tuple(map(str, classes)),
        patient[tile_set.slide],
        site[tile_set.slide],
        tuple(keys[s][1] for s in slide_ids),
        tuple(notes),
    )


def _slides(
    tiles: TileDirectory,
    encoders: Mapping[str, EmbeddingDirectory],
    cohort: Cohort | None,
) -> tuple[dict[str, str], list[str]]:
    """The patient of each slide in tiles, cohort and every encoder; and notes."""
    rows = {s: record["patient_id"] for s, record in tiles.slides.items()}
    notes = []
    if cohort:
        listed: dict[str, CohortSlide] = {row.slide_id: row for row in cohort.rows}
        notes += _left_out(rows, listed, "not in the cohort")
        rows = {s: listed[s].patient_id for s in rows if s in listed}
    for name, directory in encoders.items():
        notes += _left_out(rows, directory.fingerprints, f"not embedded by {name}")
        rows = {s: p for s, p in rows.items() if s in directory.fingerprints}
    if not rows:
        raise InputError(
            f"{tiles.path}: no slide is in the tiles, "
            f"{'the cohort and ' if cohort else ''}every embeddings directory "
            f"({', '.join(encoders)}); check that they are of the same slides"
        )
    return rows, notes


def _left_out(have: Mapping[str, str], known: Mapping[str, Any], why: str) -> list[str]:
    gone = sorted(have.keys() - known.keys())
    return [f"{len(gone)} slides left out: {why} ({gone[0]} ...)"] if gone else []


def _column(cohort: Cohort | None, name: str, key: str) -> dict[str, str | None]:
    if cohort is None:
        raise InputError(
            f"{key}={name!r}: this is a column of the cohort; give cohort=TABLE"
        )
    return cohort.column(name)


def _annotated(
    tile_set: TileSet, label: LabelConfig, tiles: TileDirectory
) -> tuple[np.ndarray, list[str]]:
    """The class of each tile by its annotation, None if left out; and notes."""
    lacks = _is_none(tile_set.annotation)
    if lacks.all():
        raise InputError(
            f"{tiles.path}: none of {len(tile_set):,} tiles at {tile_set.mpp:g} um/px "
            "is annotated: give mshisto tile a cohort whose annotation files belong to "
            "their slides (level-0 pixels), name a column of the cohort in "
            "label.column, or set it to null to evaluate spatial pairs and parents only"
        )
    names = tile_set.annotation.copy()
    edge = ~lacks & (tile_set.annotated < label.min_annotated)
    names[edge] = None
    notes = _count(edge, f"less than {label.min_annotated:g} of each is annotated")
    if label.unannotated == "other":
        names[lacks] = UNANNOTATED
        return names, notes + _unannotated_slides(tile_set, lacks)
    return names, notes + _count(lacks, "not annotated")


def _unannotated_slides(tile_set: TileSet, lacks: np.ndarray) -> list[str]:
    """A note on slides without annotation, which may never have been annotated."""
    gone = [
        tile_set.slide_ids[slide]
        for slide in np.unique(tile_set.slide)
        if lacks[tile_set.slide == slide].all()
    ]
    if not gone:
        return []
    return [
        f"{len(gone)} slides have no annotated tile ({gone[0]} ...); all their tiles "
        f"count as {UNANNOTATED}: leave slides out of the cohort that were never "
        "annotated"
    ]


def _is_none(names: np.ndarray) -> np.ndarray:
    return np.array([name is None for name in names], bool)


def _count(mask: np.ndarray, why: str) -> list[str]:
    return [f"{mask.sum():,} tiles left out: {why}"] if mask.any() else []
