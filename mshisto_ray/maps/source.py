"""Probabilities of tiles, as ``predict`` and ``tile_head`` write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.store.manifest import MANIFEST, read_manifest
from mshisto_ray.store.tiles import TileDirectory

_PREDICT, _TILE_HEAD = "predictions", "tile_head"
_PREFIXES = {_PREDICT: "instance_", _TILE_HEAD: "prob_"}
_CALIBRATED = "calibrated_"
Calibrate = Callable[[np.ndarray], np.ndarray]
_IDENTITY = ("slide_id", "mpp", "row", "col")


@dataclass(frozen=True)
class SlideScores:
    """Tiles of a slide at one scale: (row, col) [N] and probabilities [N, C].

    ``extent``: side of a tile in level-0 pixels.
    """

    slide_id: str
    mpp: float
    row: np.ndarray
    col: np.ndarray
    extent: float
    probabilities: np.ndarray


class TileScores:
    """The tile probabilities in a folder of ``predict`` or ``tile_head``.

    Of ``predict`` they are its instance probabilities (of a head that classifies tiles
    by themselves), of ``tile_head`` those out of fold, means over repeats.

    Args:
        path: the folder.
        tiles: that were predicted.
        calibrate: from probabilities [N, C] of a model to calibrated ones, which are
            then taken: of ``predict`` those that it has written.

    Attributes:
        classes: in the order of the columns.
        digest: of the recipe that made them.

    Raises:
        InputError: another folder, not finished, or without such probabilities.
    """

    def __init__(
        self, path: Path, tiles: TileDirectory, calibrate: Calibrate | None = None
    ):
        content = {}
        if (path / MANIFEST).is_file():
            content = json.loads((path / MANIFEST).read_text())
        stage = str(content.get("stage"))
        if stage not in _PREFIXES:
            raise InputError(
                f"predictions: {path}: give the folder `out` of mshisto predict or "
                "mshisto tile_head"
            )
        self._tiles, self.digest = tiles, read_manifest(path, stage).digest
        if stage == _TILE_HEAD:
            files = [path / "result" / "predictions.parquet"]
        else:
            files = sorted((path / "shards").glob("*.parquet"))
        if not files or not files[0].is_file():
            raise InputError(f"predictions: {path}: nothing is predicted yet")
        written = calibrate is not None and stage == _PREDICT
        self._calibrate = None if written else calibrate
        self._files = files
        self._prefix = _CALIBRATED if written else _PREFIXES[stage]
        schema = pq.read_schema(files[0])
        self.classes = tuple(
            name.removeprefix(self._prefix)
            for name in schema.names
            if name.startswith(self._prefix)
        )
        if not self.classes or not any(len(part) for _, part in self._tables()):
            raise InputError(
                f"predictions: {path}: its head gives no class to a tile by itself, "
                "only to slides: take tile_head, or a pooling of instances such as "
                "instance_mean, instance_max or top_k"
            )

    def slides(self) -> Iterator[SlideScores]:
        """Slide by slide; a slide of several scales comes once for each.

        Raises:
            InputError: a slide that the tiles lack.
        """
        for slide_id, part in self._tables():
            if slide_id not in self._tiles.slides:
                raise InputError(
                    f"tiles: slide {slide_id!r} of the predictions is not in "
                    f"{self._tiles.path}: give the tiles that they were made of"
                )
            scales = part["mpp"].to_numpy()
            for mpp in np.unique(scales).tolist():
                yield self._of_slide(slide_id, mpp, part.take(_where(scales == mpp)))

    def _tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Rows that have probabilities, of each slide."""
        columns = [f"{self._prefix}{name}" for name in self.classes]
        for path in self._files:
            table = pq.read_table(path, columns=[*_IDENTITY, *columns])
            table = table.take(_where(table[columns[0]].is_valid().to_numpy()))
            if not len(table):
                continue
            coded = table["slide_id"].combine_chunks().dictionary_encode()
            code = coded.indices.to_numpy()
            order = np.argsort(code, kind="stable")
            starts = np.searchsorted(code[order], np.arange(len(coded.dictionary)))
            parts = np.split(order, starts[1:])
            for slide_id, rows in zip(coded.dictionary.to_pylist(), parts, strict=True):
                yield slide_id, table.take(pa.array(rows))

    def _of_slide(self, slide_id: str, mpp: float, part: pa.Table) -> SlideScores:
        place = np.stack([part[n].to_numpy() for n in ("row", "col")], 1).astype(int)
        columns = [part[f"{self._prefix}{name}"].to_numpy() for name in self.classes]
        values = np.stack(columns, 1).astype(float)
        if self._calibrate:
            values = self._calibrate(values)
        unique, inverse = np.unique(place, axis=0, return_inverse=True)
        inverse = inverse.ravel()
        sums = np.zeros((len(unique), len(self.classes)))
        np.add.at(sums, inverse, values)
        means = sums / np.bincount(inverse)[:, None]
        extent = extent_of(self._tiles, slide_id, mpp)
        row, col = unique.T
        return SlideScores(slide_id, mpp, row, col, extent, means)


def _where(kept: np.ndarray) -> pa.Array:
    return pa.array(np.flatnonzero(kept))


def extent_of(tiles: TileDirectory, slide_id: str, mpp: float) -> float:
    """Side of a slide's tiles at a scale, in level-0 pixels.

    Raises:
        InputError: the slide has no tile at this scale.
    """
    table = tiles.read(slide_id)
    extent = table["extent"].to_numpy()[table["mpp"].to_numpy() == mpp]
    if not len(extent):
        raise InputError(
            f"tiles: {tiles.path} has no tile of {slide_id!r} at {mpp:g} um/px"
        )
    return float(extent[0])


def choose_classes(known: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Classes to map; None: all, of two the second, whose map says both.

    Raises:
        InputError: a class that the predictions do not have.
    """
    if wanted is None:
        return list(known[1:] if len(known) == 2 else known)
    for name in wanted:
        if name not in known:
            raise InputError(
                f"classes: the predictions have no class {name!r}; they have "
                f"{', '.join(map(repr, known))}"
            )
    return list(wanted)
