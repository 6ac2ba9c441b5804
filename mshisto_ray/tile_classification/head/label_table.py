"""A table of the classes of tiles, or of points, which mean the tiles around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mshisto_ray.config import InputError
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.links import read_places
from mshisto_ray.store.same_place import Corners, find_parents, read_corners
from mshisto_ray.tile_classification.head.config import TileHeadConfig


def labelled_directory(config: TileHeadConfig) -> EmbeddingDirectory:
    """The embeddings whose tiles get classes: of views the finest."""
    finest = min(config.views or (), key=lambda view: view.mpp, default=None)
    path = finest.embeddings if finest else config.embeddings
    assert path is not None
    return EmbeddingDirectory(path)


def read_label_table(
    config: TileHeadConfig, mpp: float, slides: set[str]
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Rows ``row, col, label, group`` of a table by slide, and notes on points.

    Raises:
        InputError: no such table, missing columns, places that are no numbers, no
            labelled row of these slides, or two classes of one tile.
    """
    path, target = config.target.table, config.target
    assert path is not None
    frame = _read(path)
    points = {"x", "y"} <= set(frame.columns)
    wanted = {"slide_id", "label"} | ({"x", "y"} if points else {"row", "col"})
    wanted |= {target.group} if target.group else set()
    missing = sorted(wanted - set(frame.columns))
    if missing:
        raise InputError(
            f"target.table: {path} lacks {', '.join(missing)}; it has "
            f"{', '.join(map(str, frame.columns))}"
        )
    used = frame["label"].notna() & frame["slide_id"].astype(str).isin(list(slides))
    frame = pd.DataFrame(frame[used])
    if not len(frame):
        raise InputError(
            f"target.table: {path} has no labelled row of an embedded slide"
        )
    frame = _with_numbers(frame, ("x", "y") if points else ("row", "col"), path)
    notes: list[str] = []
    if points:
        frame, notes = _on_tiles(frame, labelled_directory(config), mpp)
        if not len(frame):
            raise InputError(f"target.table: {path}: no point lies in a tile: {notes}")
    if target.group:
        frame = frame.rename(columns={target.group: "group"})
    tile = ["slide_id", "row", "col"]
    frame = frame.drop_duplicates([*tile, "label"])
    torn = pd.DataFrame(frame[frame.duplicated(tile, keep=False)])
    if len(torn):
        first = " ".join(str(torn.iloc[0][name]) for name in tile)
        raise InputError(
            f"target.table: {path}: {len(torn.drop_duplicates(tile))} tiles have two "
            f"classes, such as {first} (slide_id, row, col): a tile has one; at a "
            "finer scale points lie in tiles of their own"
        )
    return {str(slide): part for slide, part in frame.groupby("slide_id")}, notes


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"target.table: {path}: no such table")
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    sep = "\t" if path.suffix == ".tsv" else ","
    return pd.read_csv(path, sep=sep, dtype={"slide_id": str, "label": str})


def _with_numbers(
    frame: pd.DataFrame, names: tuple[str, str], path: Path
) -> pd.DataFrame:
    """The frame with these columns as numbers.

    Raises:
        InputError: a cell that is none.
    """
    found = {name: pd.to_numeric(frame[name], errors="coerce") for name in names}
    for name, values in found.items():
        wrong = np.flatnonzero(~np.isfinite(np.asarray(values, float)))
        if len(wrong):
            cell = frame[name].iloc[wrong[0]]
            raise InputError(
                f"target.table: {path}: column {name!r} has {cell!r}, in {len(wrong)} "
                f"of {len(frame)} rows no number"
            )
    return frame.assign(**found)


def _on_tiles(
    frame: pd.DataFrame, directory: EmbeddingDirectory, mpp: float
) -> tuple[pd.DataFrame, list[str]]:
    """The points that lie in tiles, with ``row`` and ``col`` of these, and notes.

    On any grid: of several tiles around a point it is the one whose centre is nearest.
    """
    parts, notes = [], []
    for slide_id, part in frame.groupby("slide_id"):
        row, col = read_places(directory, str(slide_id), mpp)
        x, y = (part[name].to_numpy(float) for name in ("x", "y"))
        points = Corners(x, y, np.zeros(len(x)))
        tiles = read_corners(directory, str(slide_id), mpp)
        found = find_parents(tiles, points, None)
        held = found.rows >= 0
        at = found.rows[held]
        parts.append(part[held].assign(row=row[at], col=col[at]))
        if not held.all():
            notes.append(
                f"target.table: {(~held).sum()} points of slide {slide_id!r} lie in no "
                f"tile that is embedded at {mpp:g} um/px"
            )
        if found.ties:
            notes.append(
                f"target.table: {found.ties} points of slide {slide_id!r} lie as near "
                "to a second tile: the first by row and column has their class"
            )
    return pd.concat(parts), notes
