"""The class of every tile: that of its slide or of its annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.evaluation.labelled_tiles import ANNOTATION, UNANNOTATED
from mshisto_ray.learning.classes import Classes
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.shards import read_shard
from mshisto_ray.store.spelling import explain_clashes
from mshisto_ray.store.tiles import TileDirectory, shard_path
from mshisto_ray.training.tile_index import UNKNOWN, TileIndex, read_index

_COLUMNS = ["mpp", "row", "col", "own", "annotation", "annotated"]


class TileTargetConfig(Config):
    """Where the class of a tile comes from."""

    column: str = option(
        "label",
        "column of the cohort: the class of the tile's slide; annotation: the class "
        "the tile lies in",
    )
    classes: Classes | None = option(
        None,
        "classes in order (of two, the second is the positive one); tiles of others "
        "are left out; null: all that occur, sorted",
    )
    min_annotated: float = option(
        0.5,
        "least share of a tile inside its annotation; tiles below it, on an edge, are "
        "left out",
        gt=0,
        le=1,
    )
    unannotated: Literal["other", "leave_out"] = option(
        "other",
        f"tiles without annotation: a class named {UNANNOTATED!r}, with its brackets, "
        "or left out",
    )


@dataclass(frozen=True)
class ClassifiedTiles:
    """Tiles that have a class.

    Attributes:
        index: of these N tiles. A slide's label in it is its class; if its tiles have
            several, the one that the fewest patients have.
        code: int64 [N] class of each tile.
        classes: names.
        by_slide: whether classes are those of whole slides.
    """

    index: TileIndex
    code: np.ndarray
    classes: tuple[str, ...]
    by_slide: bool

    def part(self, tiles: np.ndarray) -> ClassifiedTiles:
        """Only the given tiles (sorted, unique)."""
        return replace(self, index=self.index.subset(tiles), code=self.code[tiles])

    def patients(self) -> np.ndarray:
        """The number of patients with tiles of each class, int [C]."""
        return _has(self.index.patient[self._slide()], self.code, self.classes).sum(0)

    def slides(self) -> list[str]:
        """Ids of the slides that the tiles are of."""
        return [self.index.slide_ids[place] for place in np.unique(self._slide())]

    def _slide(self) -> np.ndarray:
        return self.index.slide(np.arange(len(self.index)))


def read_classified(
    tiles: TileDirectory,
    cohort: Cohort | None,
    target: TileTargetConfig,
    scales: Sequence[float] | None,
) -> ClassifiedTiles:
    """Read the tiles with enough tissue of their own that have a class.

    Args:
        tiles: the tiles.
        cohort: slides to use, with their patients and classes; None: all, as tiled.
        target: where the class of a tile comes from.
        scales: mpp wanted; None: all.

    Raises:
        InputError: no cohort or column with the classes, no slide in common, a patient
            of two classes, fewer than two classes.
    """
    patients = _patients(tiles, cohort)
    if target.column == ANNOTATION:
        index = read_index(tiles, list(patients), {}, scales, patients)
        names, code = _annotated(tiles, index, target)
    else:
        found = _of_slides(cohort, patients, target)
        index = read_index(tiles, list(found), {}, scales, patients)
        names, by_slide = np.unique(list(found.values()), return_inverse=True)
        code = by_slide[index.slide(np.arange(len(index)))]
    classes, code = _in_order(list(map(str, names)), code, target)
    kept = np.flatnonzero(code != UNKNOWN)
    made = ClassifiedTiles(
        index.subset(kept), code[kept], classes, target.column != ANNOTATION
    )
    _check_classes(made, target)
    return replace(made, index=_with_labels(made))


def _patients(tiles: TileDirectory, cohort: Cohort | None) -> dict[str, str]:
    """Patient of each slide that is used."""
    if cohort is None:
        return {s: record["patient_id"] for s, record in tiles.slides.items()}
    rows = {row.slide_id: row.patient_id for row in cohort.rows}
    used = {slide_id: rows[slide_id] for slide_id in tiles.slides if slide_id in rows}
    if not used:
        raise InputError(f"{cohort.path}: none of its slides is in {tiles.path}")
    return used


def _of_slides(
    cohort: Cohort | None, patients: Mapping[str, str], target: TileTargetConfig
) -> dict[str, str]:
    """The class of each slide that has one of the wanted classes."""
    if cohort is None:
        raise InputError(
            f"target.column={target.column}: this is a column of the cohort; give "
            f"cohort=TABLE, or target.column={ANNOTATION}"
        )
    column = cohort.column(target.column)
    wanted = {s: column[s] for s in patients}
    found = {
        s: name
        for s, name in wanted.items()
        if name is not None and (not target.classes or name in target.classes)
    }
    first: dict[str, str] = {}
    torn = sorted({patients[s] for s, n in found.items()
                   if first.setdefault(patients[s], n) != n})  # fmt: skip
    if torn:
        raise InputError(
            f"target.column={target.column}: {len(torn)} patients have slides of two "
            f"classes, such as {torn[0]!r}: a patient is trained on or held out as a "
            "whole, of one class; correct the cohort, or leave one class out with "
            "target.classes"
        )
    return found


def _annotated(
    tiles: TileDirectory, index: TileIndex, target: TileTargetConfig
) -> tuple[list[str], np.ndarray]:
    """Class names in order of appearance; each tile's index into them, -1: none."""
    codes: dict[str, int] = {}
    found = np.full(len(index), UNKNOWN)
    other = target.unannotated == "other"
    for number, slide_id in enumerate(index.slide_ids):
        table = read_shard(shard_path(tiles.path, slide_id), columns=_COLUMNS)
        values = {name: table[name].to_numpy() for name in _COLUMNS}
        own = values["own"] & np.isin(values["mpp"], index.scales)
        values = {name: column[own] for name, column in values.items()}
        layer = number * len(index.scales) + np.searchsorted(
            index.scales, values["mpp"]
        )
        place, _ = index.run(layer, values["row"], values["col"], values["col"])
        bare = np.array([name is None for name in values["annotation"]], bool)
        inside = ~bare & (values["annotated"] >= target.min_annotated)
        names = values["annotation"][inside]
        found[place[inside]] = [codes.setdefault(n, len(codes)) for n in names]
        if other and bare.any():
            found[place[bare]] = codes.setdefault(UNANNOTATED, len(codes))
    clashes = explain_clashes("annotation", codes)
    if clashes:
        raise InputError(f"{tiles.path}: {clashes[0]}")
    return list(codes), found


def _in_order(
    names: list[str], code: np.ndarray, target: TileTargetConfig
) -> tuple[tuple[str, ...], np.ndarray]:
    classes = target.classes or tuple(sorted(names))
    order = {name: place for place, name in enumerate(classes)}
    # The last place is for tiles without a class, whose code is -1.
    places = np.array([*(order.get(name, UNKNOWN) for name in names), UNKNOWN])
    return classes, places[code]


def _check_classes(made: ClassifiedTiles, target: TileTargetConfig) -> None:
    counts = np.bincount(made.code, minlength=len(made.classes))
    held = [n for n, num in zip(made.classes, counts, strict=True) if num]
    if len(held) < 2:
        have = f"only {held[0]!r} has tiles" if held else "no tile has a class"
        raise InputError(
            f"target.column={target.column}: {have}, and a classifier needs two "
            "classes: give a column with two or more, or tiles at other scales"
        )
    empty = [name for name in made.classes if name not in held]
    if empty:
        raise InputError(
            f"target.classes: no tile is of {', '.join(map(repr, empty))}; have "
            f"{', '.join(map(repr, held))}"
        )


def _with_labels(made: ClassifiedTiles) -> TileIndex:
    """The index with a class for each slide; of several, the rarest."""
    index = made.index
    has = _has(made._slide(), made.code, made.classes, len(index.slide_ids))
    rarity = np.where(has, made.patients(), np.iinfo(np.int64).max)
    label = np.where(has.any(axis=1), rarity.argmin(axis=1), UNKNOWN)
    return replace(index, label=label)


def _has(
    group: np.ndarray, code: np.ndarray, classes: Sequence[str], num: int | None = None
) -> np.ndarray:
    """Whether each group has tiles of each class, bool [G, C]."""
    if num is None:
        num = int(group.max(initial=-1)) + 1
    has = np.zeros((num, len(classes)), bool)
    has[group, code] = True
    return has
