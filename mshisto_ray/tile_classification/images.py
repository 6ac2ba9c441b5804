"""A table of labelled images, embedded by an encoder in this process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mshisto_ray.config import Config, InputError, InputPath, option
from mshisto_ray.encoders import Encoder
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.tile_classification.head.samples import TileSamples

_AT_ONCE = 16


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
    """N images: paths, classes, groups and given folds."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    folds: tuple[str | None, ...] | None
    side: int
    scaled: bool
    sites: tuple[str, ...] | None = None
    second: tuple[str | None, ...] | None = None

    def read(self, index: int) -> np.ndarray:
        """One image, uint8 [S, S, 3]: its middle square, scaled where configured."""
        with Image.open(self.paths[index]) as image:
            rgb = image.convert("RGB")
        side = min(rgb.size) if self.scaled else self.side
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        square = rgb.crop((left, top, left + side, top + side))
        if self.scaled and side != self.side:
            size = (self.side, self.side)
            square = square.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(square)


def read_images(config: ImagesConfig) -> Images:
    """Read the table and look at every image's size.

    Raises:
        InputError: no table or column, an image that is missing or not one, a group
            with two folds.
    """
    if not config.table.is_file():
        raise InputError(f"images.table: {config.table}: no such table")
    sep = "," if config.table.suffix == ".csv" else "\t"
    frame = pd.read_csv(config.table, sep=sep, dtype=str)
    wanted = [config.file, config.label, config.group]
    wanted += [n for n in (config.fold, config.site, config.second_label) if n]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise InputError(
            f"images: {config.table} has no column {', '.join(missing)}; have "
            f"{', '.join(frame.columns)}: name yours by images.file, images.label and "
            "images.group (the patient)"
        )
    frame = pd.DataFrame(frame[frame[config.label].notna()])
    folder = config.folder or config.table.parent
    paths = tuple(folder / name for name in frame[config.file].tolist())
    sizes = []
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.append(min(image.size))
        except OSError as error:
            raise InputError(f"images: {path}: cannot be read ({error})") from None
    if not sizes:
        raise InputError(f"images: {config.table} has no labelled row")
    labels, groups = (
        tuple(frame[c].astype(str).tolist()) for c in (config.label, config.group)
    )
    folds = tuple(frame[config.fold].tolist()) if config.fold else None
    side = config.px or min(sizes)
    sites = tuple(frame[config.site].astype(str).tolist()) if config.site else None
    second = None
    if config.second_label:
        cells = frame[config.second_label]
        second = tuple(None if pd.isna(cell) else str(cell) for cell in cells)
    scaled = config.px is not None
    return Images(paths, labels, groups, folds, side, scaled, sites, second)


def embed_images(
    images: Images, encoder: Encoder, name: str
) -> tuple[TileSamples, float]:
    """Embed all images; returns them as samples and images per second."""
    started, parts = time.perf_counter(), []
    for start in range(0, len(images.paths), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(images.paths))
        batch = np.stack([images.read(i) for i in range(start, stop)])
        parts.append(encoder(batch).astype(np.float32))
    rate = len(images.paths) / (time.perf_counter() - started)
    return as_samples(images, np.concatenate(parts), encoder.digest, name), rate


def as_samples(
    images: Images, values: np.ndarray, digest: str, name: str
) -> TileSamples:
    """Images with their embeddings [N, D], grouped by their groups."""
    groups, group = np.unique(np.array(images.groups, str), return_inverse=True)
    classes, target = np.unique(np.array(images.labels, str), return_inverse=True)
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group)
    row = np.concatenate([np.arange(n) for n in counts])
    offsets = np.concatenate([[0], counts.cumsum()])
    files = hashlib.blake2b(repr(images.paths).encode(), digest_size=8).hexdigest()
    return TileSamples(
        features=ArrayFeatures(list(map(str, groups)), values[order], offsets),
        slide=group[order],
        row=row,
        place=np.stack([row, row], 1),
        target=target[order],
        group=group[order],
        groups=tuple(map(str, groups)),
        classes=tuple(map(str, classes)),
        folds=_folds(images, groups.tolist()),
        views=(values.shape[1],),
        mpp=0.0,
        digest=f"{digest} {files}",
        encoder={"name": name, "digest": digest},
        notes=(),
        site=np.array(images.sites, str)[order] if images.sites else None,
    )


def second_task(images: Images, samples: TileSamples) -> TileSamples:
    """The embedded images with their second classes; without those that have none.

    Raises:
        InputError: fewer than two classes.
    """
    assert images.second is not None
    order = np.argsort(np.unique(images.groups, return_inverse=True)[1], kind="stable")
    labels = np.array(images.second, object)[order]
    kept = np.flatnonzero([label is not None for label in labels])
    classes, target = np.unique(labels[kept].astype(str), return_inverse=True)
    if len(classes) < 2:
        raise InputError("images.second_label: fewer than two classes")
    names = ("slide", "row", "place", "group")
    parts = {name: getattr(samples, name)[kept] for name in names}
    known = tuple(map(str, classes))
    return replace(samples, **parts, target=target, classes=known, site=None)


def _folds(images: Images, groups: Sequence[str]) -> tuple[str | None, ...] | None:
    if images.folds is None:
        return None
    found: dict[str, str | None] = {}
    for group, fold in zip(images.groups, images.folds, strict=True):
        if found.setdefault(group, fold) != fold:
            raise InputError(
                f"images.fold: {group!r} has images in folds {found[group]} and "
                f"{fold}: what stays together has one fold"
            )
    return tuple(found[name] for name in groups)
