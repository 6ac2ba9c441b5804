"""A user's table of labelled images: one class, patient and file a row."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from mshisto_ray.config import Config, InputError, InputPath, option
from mshisto_ray.slides import SlideError, flat_image
from mshisto_ray.store.table import UserTable, full_cells, read_table

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
_NAMED = 3


class ImagesConfig(Config):
    """A table of image files with a class each."""

    table: InputPath = option(text="CSV or TSV, a row an image")
    folder: InputPath | None = option(
        None, "that file names are relative to; null: that of the table"
    )
    file: str = option("file", "column of file names")
    label: str = option("label", "column of classes")
    group: str = option(
        "patient_id", "column of patients, or of what else stays together, as block"
    )
    fold: str | None = option(
        None, "column of given folds (numbers, or train, validation and test)"
    )
    site: str | None = option(
        None, "column of sites or scanners, to measure how robust encoders are"
    )
    second_label: str | None = option(
        None, "column of the classes of another task, on which the ranking is repeated"
    )
    px: int | None = option(
        None, "side that images are scaled to; null: that of the largest square that "
        "all have in common, from their middle",
        "px", ge=16,
    )  # fmt: skip


@dataclass(frozen=True)
class Images:
    """N images: paths, classes, groups, given folds; ``notes`` on what is left out."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    folds: tuple[str | None, ...] | None
    side: int
    scaled: bool
    sites: tuple[str, ...] | None = None
    second: tuple[str | None, ...] | None = None
    notes: tuple[str, ...] = ()

    def read(self, index: int) -> np.ndarray:
        """One image, uint8 [S, S, 3]: its middle square, scaled where configured.

        What is transparent is white.

        Raises:
            SlideError: the file is damaged.
        """
        image = flat_image.build(self.paths[index])
        width, height = image.levels[0].width, image.levels[0].height
        side = min(width, height) if self.scaled else self.side
        left, top = (width - side) // 2, (height - side) // 2
        square = image.read(0, left, top, side, side)
        if not self.scaled or side == self.side:
            return square
        size = (self.side, self.side)
        scaled = Image.fromarray(square).resize(size, Image.Resampling.BICUBIC)
        return np.asarray(scaled)

    def readable(self) -> Images:
        """Those whose pixels can be decoded, with a note on the others.

        Raises:
            InputError: none can.
        """
        return self._without_failing(lambda i: self.read(i))

    def _without_failing(self, attempt: Callable[[int], object]) -> Images:
        failed: dict[int, str] = {}
        for index in range(len(self.paths)):
            try:
                attempt(index)
            except SlideError as error:
                failed[index] = str(error)
        if len(failed) == len(self.paths):
            path, why = self.paths[0], failed[0]
            raise InputError(f"images: none can be read; {path}: {why}")
        if not failed:
            return self
        kept = [i for i in range(len(self.paths)) if i not in failed]
        named = [f"{self.paths[i].name} ({why})" for i, why in failed.items()]
        note = (
            f"warning: {len(failed)} of {len(self.paths)} images cannot be read and "
            f"are left out: {_named(named, '; ')}"
        )
        return replace(self._take(kept), notes=(*self.notes, note))

    def _take(self, kept: Sequence[int]) -> Images:
        columns = ("paths", "labels", "groups", "folds", "sites", "second")
        cells = {name: getattr(self, name) for name in columns}
        return replace(
            self, **{n: c and tuple(c[i] for i in kept) for n, c in cells.items()}
        )


def read_images(config: ImagesConfig) -> Images:
    """Read the table and look at every image's size.

    A name without an ending is that of the one image of this name in the folder. Images
    that cannot be opened, or have more than 8 bits a channel, are left out with a note.

    Raises:
        InputError: no table or column, an image that does not exist or is there twice,
            an empty patient or site, or no image that can be read.
    """
    table = read_table(config.table, "table of images")
    wanted = [config.file, config.label, config.group]
    wanted += [n for n in (config.fold, config.site, config.second_label) if n]
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise InputError(
            f"images: {config.table} has no column {', '.join(missing)}; have "
            f"{', '.join(table.columns)}: name yours by images.file, images.label and "
            "images.group (the patient)"
        )
    labelled = [i for i, cell in enumerate(table.columns[config.label]) if cell]
    if not labelled:
        raise InputError(f"images: {config.table} has no labelled row")

    def column(name: str) -> list[str | None]:
        return [table.columns[name][i] for i in labelled]

    def full(name: str) -> tuple[str, ...]:
        return tuple(full_cells(column(name), name, f"images: {config.table}"))

    found = Images(
        paths=_find(full(config.file), config.folder or config.table.parent),
        labels=full(config.label),
        groups=full(config.group),
        folds=tuple(column(config.fold)) if config.fold else None,
        side=config.px or 0,
        scaled=config.px is not None,
        sites=full(config.site) if config.site else None,
        second=tuple(column(config.second_label)) if config.second_label else None,
        notes=_notes(table, config, len(labelled)),
    )
    sizes: list[int] = []

    def look(index: int) -> None:
        level = flat_image.build(found.paths[index]).levels[0]
        sizes.append(min(level.width, level.height))

    kept = found._without_failing(look)
    return kept if kept.scaled else replace(kept, side=min(sizes))


def _notes(
    table: UserTable, config: ImagesConfig, num_labelled: int
) -> tuple[str, ...]:
    names = [n for n in (config.label, config.second_label) if n]
    notes = table.notes(names)
    if left_out := table.num_rows - num_labelled:
        notes.append(
            f"{left_out} of {table.num_rows} rows of {config.table.name} have no "
            f"{config.label!r} and are left out"
        )
    return tuple(notes)


def _find(names: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """The files of these names.

    Raises:
        InputError: some do not exist, or are named by several rows.
    """
    listed = functools.cache(_by_stem)
    paths = [_complete(folder / name, listed) for name in names]
    lacking = [str(path) for path in paths if not path.is_file()]
    if lacking:
        raise InputError(
            f"images: {len(lacking)} of {len(paths)} files do not exist: "
            f"{_named(lacking)}: names are relative to images.folder, or else to the "
            "table's folder"
        )
    twice = [str(path) for path, num in Counter(paths).items() if num > 1]
    if twice:
        raise InputError(
            f"images: {len(twice)} files are in more than one row: {_named(twice)}: an "
            "image is one sample"
        )
    return tuple(paths)


def _complete(path: Path, listed: Callable[[Path], dict[str, list[Path]]]) -> Path:
    """The path, or the one image with its name and an ending where it has none."""
    if path.is_file():
        return path
    found = listed(path.parent).get(path.name, [])
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise InputError(f"images: {path} may be {names}: give the ending in the table")
    return found[0] if found else path


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in _SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    return found


def _named(names: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return between.join(names[:_NAMED]) + more
