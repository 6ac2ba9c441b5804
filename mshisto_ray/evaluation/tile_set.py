"""Tiles of one scale that several encoders have embedded, in one order of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mshisto_ray.config import InputError
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.links import read_places
from mshisto_ray.store.manifest import differences
from mshisto_ray.store.same_place import (
    Corners,
    are_same,
    check_places,
    find_parents,
    read_corners,
)
from mshisto_ray.store.same_slides import explain_other_files
from mshisto_ray.store.shards import match_tiles
from mshisto_ray.store.tiles import TileDirectory


@dataclass(frozen=True)
class TileSet:
    """Tiles slide by slide, each sorted by (row, col).

    ``slide``: index into ``slide_ids``, [N]; ``row``, ``col``: [N]; ``centre``:
    micrometres from the slide's corner [N, 2]; ``side``: micrometres [N];
    ``annotation``: class or None, [N];
    ``annotated``: share of the tile that this class covers, [N].
    """

    mpp: float
    slide_ids: tuple[str, ...]
    slide: np.ndarray
    row: np.ndarray
    col: np.ndarray
    centre: np.ndarray
    side: np.ndarray
    annotation: np.ndarray
    annotated: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def select(self, rows: np.ndarray) -> TileSet:
        """The given rows (mask or indices), with the same slides."""
        names = [f.name for f in fields(self) if f.name not in ("mpp", "slide_ids")]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def identity(self) -> tuple[np.ndarray, ...]:
        """``slide_id, mpp, row, col`` [N] each, for ``match_tiles``."""
        slide_id = np.array(self.slide_ids, dtype=object)[self.slide]
        return slide_id, np.full(len(self), self.mpp), self.row, self.col

    def parents(self, coarse: TileSet) -> np.ndarray:
        """The row in ``coarse`` of the tile around each tile's centre, or -1.

        On one grid the parent; the slides of ``coarse`` are some of these.
        """
        found = np.full(len(self), -1)
        for index, slide_id in enumerate(coarse.slide_ids):
            ours = np.flatnonzero(self.slide == self.slide_ids.index(slide_id))
            theirs = np.flatnonzero(coarse.slide == index)
            corners = coarse.corners(theirs), self.corners(ours)
            rows = find_parents(*corners, ratio=None).rows
            found[ours[rows >= 0]] = theirs[rows[rows >= 0]]
        return found

    def corners(self, rows: np.ndarray) -> Corners:
        """Corners and sides of the given rows, in micrometres."""
        side = self.side[rows]
        x, y = (self.centre[rows] - side[:, None] / 2).T
        return Corners(x, y, side)


def check_same_tiles(
    tiles: TileDirectory, encoders: Mapping[str, EmbeddingDirectory]
) -> None:
    """Refuse embeddings of other tiles, or of other slide files, than these."""
    for name, directory in encoders.items():
        theirs = directory.manifest.recipe["tiles"]
        other = differences(tiles.pixel_recipe, theirs)
        if other and not directory.is_imported:
            raise InputError(
                f"{name}: {directory.path} embeds other tiles than {tiles.path} "
                f"({'; '.join(other)}); give embeddings of these tiles"
            )
        apart = explain_other_files(tiles.fingerprints, directory.fingerprints)
        if apart and directory.knows_slides:
            raise InputError(
                f"{name}: {directory.path} embeds another file of {apart} than "
                f"{tiles.path}; run mshisto embed on these tiles"
            )


def read_tile_set(
    tiles: TileDirectory,
    encoders: Mapping[str, EmbeddingDirectory],
    slide_ids: Sequence[str],
    mpp: float,
    own_only: bool = True,
) -> TileSet:
    """Read the tiles of these slides at a scale that every encoder has embedded."""
    tables, slides = [], []
    for index, slide_id in enumerate(slide_ids):
        table = _planned(tiles, slide_id, mpp, own_only)
        planned = dict(tiles.slides[slide_id]["tiles_per_scale"]).get(mpp, 0)
        for name, directory in encoders.items():
            if directory.is_imported:
                table = _in_place(table, name, directory, slide_id, mpp, tiles.path)
            elif directory.num_rows(slide_id, mpp) != planned:  # some tiles failed
                found = directory.read(slide_id, mpp, own_only)
                keep = match_tiles(_keys(table), (found.row, found.col)) >= 0
                table = table.filter(pa.array(keep))
        tables.append(table)
        slides.append(np.full(table.num_rows, index))
    joined = pa.concat_tables(tables)
    slide = np.concatenate(slides)
    um_per_px = np.array([tiles.slides[s]["mpp"] for s in slide_ids])[slide]
    extent = joined["extent"].to_numpy()
    middle = [joined[name].to_numpy() + extent / 2 for name in ("x", "y")]
    return TileSet(
        mpp,
        tuple(slide_ids),
        slide,
        joined["row"].to_numpy(),
        joined["col"].to_numpy(),
        np.stack(middle, 1) * um_per_px[:, None],
        extent * um_per_px,
        np.array(joined["annotation"].to_pylist(), dtype=object),
        joined["annotated"].to_numpy(),
    )


def read_values(directory: EmbeddingDirectory, tile_set: TileSet) -> np.ndarray:
    """Read the embeddings [N, D] of a set's tiles, as stored."""
    parts = []
    for index, slide_id in enumerate(tile_set.slide_ids):
        found = directory.read(slide_id, tile_set.mpp, own_only=False)
        rows = tile_set.slide == index
        wanted = (tile_set.row[rows], tile_set.col[rows])
        place = match_tiles(wanted, (found.row, found.col))
        assert (place >= 0).all(), "a tile set holds what every encoder has"
        parts.append(found.values[place])
    return np.concatenate(parts)


def _in_place(
    table: pa.Table,
    name: str,
    directory: EmbeddingDirectory,
    slide_id: str,
    mpp: float,
    path: Path,
) -> pa.Table:
    """The planned tiles that were imported too, at the same place."""
    if mpp not in directory.scales:
        raise InputError(
            f"scale: {name} has no features at {mpp:g} um/px; have {directory.scales}"
        )
    at = match_tiles(_keys(table), read_places(directory, slide_id, mpp))
    kept = table.take(np.flatnonzero(at >= 0))
    planned = Corners(*(kept[key].to_numpy() for key in ("x", "y", "extent")))
    imported = read_corners(directory, slide_id, mpp)[at[at >= 0]]
    fits = are_same(imported, planned)
    check_places(name, (directory.path, path), (imported, planned), fits)
    return kept.filter(pa.array(fits))


def _planned(
    tiles: TileDirectory, slide_id: str, mpp: float, own_only: bool
) -> pa.Table:
    table = tiles.read(slide_id)
    keep = table["mpp"].to_numpy() == mpp
    if own_only:
        keep &= table["own"].to_numpy()
    kept = table.take(np.flatnonzero(keep))
    row, col = _keys(kept)
    return kept.take(np.lexsort((col, row)))


def _keys(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return table["row"].to_numpy(), table["col"].to_numpy()
