"""Classes of a slide's tiles: of a table, of its annotation, of the slide itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mshisto_ray.config import InputError
from mshisto_ray.evaluation.labelled_tiles import ANNOTATION, UNANNOTATED
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.links import find_places, read_places
from mshisto_ray.store.same_place import Corners, are_same, check_places, read_corners
from mshisto_ray.store.shards import read_shard
from mshisto_ray.store.tiles import TileDirectory, shard_path
from mshisto_ray.tile_classification.head.config import TileHeadConfig
from mshisto_ray.tile_classification.head.label_table import (
    labelled_directory,
    read_label_table,
)

_ANNOTATION_COLUMNS = [
    "mpp", "row", "col", "annotation", "annotated", "x", "y", "extent"
]  # fmt: skip


@dataclass
class Labels:
    """Finds classes; ``names``: those met so far, whose places are the codes.

    ``table``: by slide, rows with (row, col), label, group; ``by_slide``: class of
    whole slides; ``tiles``: annotated ones, of which ``directory`` has embeddings.
    """

    config: TileHeadConfig
    mpp: float
    patients: Mapping[str, str]
    groups: Mapping[str, str] | None
    folds: Mapping[str, str | None] | None
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    by_slide: Mapping[str, str | None] | None = None
    table: Mapping[str, pd.DataFrame] | None = None
    tiles: TileDirectory | None = None
    directory: EmbeddingDirectory | None = None

    def of(
        self, slide_id: str, row: np.ndarray, col: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Code (-1: no class) and group of a slide's tiles, [N] each."""
        whole = (self.groups or self.patients)[slide_id]
        group = np.full(len(row), whole, object)
        if self.table is not None:
            return self._of_table(slide_id, row, col, group)
        if self.tiles is not None:
            return self._of_annotation(slide_id, row, col), group
        assert self.by_slide is not None
        name = self.by_slide[slide_id]
        return np.full(len(row), -1 if name is None else self._code(name)), group

    def folds_of(self, groups: Sequence[str]) -> tuple[str | None, ...] | None:
        """The given fold of each group."""
        if self.folds is None:
            return None
        return tuple(self.folds.get(str(name)) for name in groups)

    def _code(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def _of_table(
        self, slide_id: str, row: np.ndarray, col: np.ndarray, group: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        code = np.full(len(row), -1)
        assert self.table is not None
        if slide_id not in self.table:
            return code, group
        rows = self.table[slide_id]
        wanted = rows["row"].to_numpy(), rows["col"].to_numpy()
        at = find_places((row, col), wanted)
        found = at >= 0
        if (~found).any():
            self.notes.append(
                f"target.table: {(~found).sum()} tiles of slide {slide_id!r} are not "
                f"embedded at {self.mpp:g} um/px"
            )
        at = at[found]
        names = rows["label"].to_numpy()[found]
        code[at] = [self._code(str(name)) for name in names]
        if "group" in rows:
            group[at] = rows["group"].to_numpy()[found]
        return code, group

    def _of_annotation(
        self, slide_id: str, row: np.ndarray, col: np.ndarray
    ) -> np.ndarray:
        assert self.tiles is not None
        code = np.full(len(row), -1)
        if slide_id not in self.tiles.slides:
            return code
        table = read_shard(shard_path(self.tiles.path, slide_id), _ANNOTATION_COLUMNS)
        here = table["mpp"].to_numpy() == self.mpp
        parts = {n: table[n].to_numpy()[here] for n in _ANNOTATION_COLUMNS[1:]}
        names = parts["annotation"]
        at = find_places((row, col), (parts["row"], parts["col"]))
        corners = Corners(*(parts[key] for key in ("x", "y", "extent")))
        at = self._in_place(slide_id, row, col, corners, at)
        bare = np.array([name is None for name in names], bool)
        inside = ~bare & (parts["annotated"] >= self.config.target.min_annotated)
        for rows, known in ((inside, names), (bare, np.full(len(names), UNANNOTATED))):
            if rows is bare and self.config.target.unannotated != "other":
                continue
            use = rows & (at >= 0)
            code[at[use]] = [self._code(str(name)) for name in known[use]]
        return code

    def _in_place(
        self,
        slide_id: str,
        row: np.ndarray,
        col: np.ndarray,
        corners: Corners,
        at: np.ndarray,
    ) -> np.ndarray:
        """``at``, the embedding of each tile, with -1 where that lies elsewhere."""
        assert self.tiles is not None and self.directory is not None
        have = read_places(self.directory, slide_id, self.mpp)
        theirs = read_corners(self.directory, slide_id, self.mpp)
        theirs = theirs[find_places(have, (row, col))]
        held = np.flatnonzero(at >= 0)
        pair = (corners[held], theirs[at[held]])
        fits = are_same(*pair)
        check_places("tiles", (self.tiles.path, self.directory.path), pair, fits)
        at[held[~fits]] = -1
        return at


def read_labels(
    config: TileHeadConfig,
    cohort: Cohort | None,
    mpp: float,
    patients: Mapping[str, str],
) -> Labels:
    """What gives tiles their classes.

    Raises:
        InputError: a table, column or tiles directory that is missing or does not fit.
    """
    target = config.target
    column = config.split.column
    folds = groups = None
    if cohort and column and cohort.find(column) is not None:
        given = cohort.column(column)
        folds = {patients[s]: given[s] for s in patients}
    if cohort and target.group and target.table is None:
        own = cohort.column(target.group)
        groups = {s: own[s] or patients[s] for s in patients}
        if folds:
            folds = {groups[s]: cohort.column(str(column))[s] for s in patients}
    labels = Labels(config, mpp, patients, groups, folds)
    if target.table is not None:
        labels.table, notes = read_label_table(config, mpp, set(patients))
        labels.notes += notes
    elif target.column == ANNOTATION:
        _set_annotation(labels)
    elif cohort is None:
        raise InputError(
            f"target.column={target.column}: this is a column of the cohort; give "
            "cohort=TABLE, target.column=annotation, or target.table=TABLE"
        )
    else:
        labels.by_slide = cohort.column(target.column)
    return labels


def _set_annotation(labels: Labels) -> None:
    """Let the tiles directory give classes; slides that it lacks have none.

    Raises:
        InputError: see ``_annotated_tiles``; no embedded slide is in it.
    """
    labels.directory = labelled_directory(labels.config)
    labels.tiles = _annotated_tiles(labels.config, labels.directory, labels.mpp)
    lacking = sorted(set(labels.patients) - set(labels.tiles.slides))
    if len(lacking) == len(labels.patients):
        raise InputError(
            f"tiles: no embedded slide is in {labels.tiles.path}: give the tiles "
            "directory that was embedded"
        )
    if lacking:
        labels.notes.append(
            f"{len(lacking)} slides have no class, they are not in "
            f"{labels.tiles.path}: {', '.join(lacking[:5])}"
        )


def _annotated_tiles(
    config: TileHeadConfig, embedded: EmbeddingDirectory, mpp: float
) -> TileDirectory:
    """The tiles that hold the annotation.

    Raises:
        InputError: none were given, or of other scales or slide files than embedded.
    """
    if config.tiles is None:
        raise InputError(
            "target.column=annotation: give tiles=DIR, the tiles directory of the "
            "embeddings, which holds the annotation"
        )
    tiles = TileDirectory(config.tiles)
    if mpp not in tiles.scales:
        have = ", ".join(f"{scale:g}" for scale in tiles.scales)
        raise InputError(f"tiles: {tiles.path} has no {mpp:g} um/px; it has {have}")
    embedded.check_slide_files(tiles.path, tiles.fingerprints)
    return tiles
