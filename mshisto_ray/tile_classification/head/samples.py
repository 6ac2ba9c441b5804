"""Embedded tiles that have a class, as rows of features; nothing of them is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.representation.views import open_views
from mshisto_ray.store.cache import open_features
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.features import ArrayFeatures, Features
from mshisto_ray.store.learned_labels import learned_notes
from mshisto_ray.store.links import read_places
from mshisto_ray.tile_classification.head.config import TileHeadConfig
from mshisto_ray.tile_classification.head.labels import Labels, read_labels


@dataclass(frozen=True)
class TileSamples:
    """N tiles with a class, slide by slide and in the order of the features' rows.

    ``slide``: place in ``features``; ``row``: its row there; ``place``: (row, col) on
    the grid [N, 2]; ``target``: class index; ``group``: number of the patient (or other
    group that stays together) in ``groups``; all [N]. ``folds``: given fold of each
    group or None; ``views``: columns of each view; ``mpp``, ``digest``, ``encoder``: of
    the embeddings; ``notes``: what was left out; ``patients``: of each slide, none
    where groups are patients; ``site``: of each tile, text [N], where it is known;
    ``failures``: slides and tiles that a view lacks; ``tile_px``: side of each view's
    tiles.
    """

    features: Features
    slide: np.ndarray
    row: np.ndarray
    place: np.ndarray
    target: np.ndarray
    group: np.ndarray
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    folds: tuple[str | None, ...] | None
    views: tuple[int, ...]
    mpp: float
    digest: str
    encoder: Mapping[str, Any]
    notes: tuple[str, ...]
    patients: tuple[str, ...] = ()
    site: np.ndarray | None = None
    failures: tuple[Failure, ...] = ()
    tile_px: tuple[int | None, ...] = ()

    def __len__(self) -> int:
        return len(self.target)

    def read(self, index: np.ndarray) -> np.ndarray:
        """Embeddings [n, D] of the samples at ``index`` (sorted; may repeat)."""
        if isinstance(self.features, ArrayFeatures):
            return self.features.values[
                self.features.offsets[self.slide[index]] + self.row[index]
            ]
        parts = [
            self.features.read(slide)[self.row[rows]]
            for slide, rows in self.by_slide(index)
        ]
        empty = np.zeros((0, self.features.dim), np.float32)
        return np.concatenate(parts) if parts else empty

    def by_slide(self, index: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """The samples at ``index`` (sorted) of each slide in turn."""
        slides, starts = np.unique(self.slide[index], return_index=True)
        yield from zip(slides.tolist(), np.split(index, starts[1:]), strict=True)

    def patients_of_tiles(self) -> np.ndarray:
        """The patient of each tile, text [N]."""
        if not self.patients:
            return np.array(self.groups, str)[self.group]
        return np.array(self.patients, str)[self.slide]

    def summary(self) -> str:
        """Tiles and groups of each class, in a line."""
        shown = []
        for code, name in enumerate(self.classes):
            own = self.target == code
            groups = len(np.unique(self.group[own]))
            shown.append(f"{name}: {own.sum():,} tiles of {groups}")
        return (
            f"{len(self):,} tiles of {len(self.groups)} patients or groups at "
            f"{self.mpp:g} um/px; {'; '.join(shown)}"
        )

    @property
    def identity(self) -> str:
        """Digest of what a result depends on."""
        digest = hashlib.blake2b(digest_size=16)
        head = (self.digest, self.classes, self.groups, self.folds, self.mpp)
        digest.update(repr((*head, list(self.features.slide_ids))).encode())
        for array in (self.slide, self.row, self.target, self.group):
            digest.update(np.ascontiguousarray(array, np.int64).data)
        return digest.hexdigest()


def read_samples(config: TileHeadConfig) -> TileSamples:
    """Open the embeddings of a config and give their tiles classes.

    Raises:
        InputError: embeddings, views, table, column or classes that cannot be used.
    """
    cohort = (
        read_cohort(config.cohort, False, config.columns) if config.cohort else None
    )
    source = _open(config, cohort)
    labels = read_labels(config, cohort, source.mpp, source.slide_patients)
    parts: list[_Slide] = []
    for number, slide_id in enumerate(source.features.slide_ids):
        if slide_id in source.slide_patients:
            place = source.places(number)
            parts.append(_Slide(number, place, *labels.of(slide_id, *place)))
    return _assemble(config, source, labels, parts)


@dataclass(frozen=True)
class _Slide:
    """A slide's tiles: (row, col), class code (-1: none) and group of each."""

    number: int
    place: tuple[np.ndarray, np.ndarray]
    code: np.ndarray
    group: np.ndarray


@dataclass(frozen=True)
class _TileSource:
    features: Features
    places: Any
    slide_patients: Mapping[str, str]
    mpp: float
    views: tuple[int, ...]
    digest: str
    encoder: Mapping[str, Any]
    notes: tuple[str, ...]
    directories: tuple[EmbeddingDirectory, ...]
    failures: tuple[Failure, ...] = ()


def _open(config: TileHeadConfig, cohort: Cohort | None) -> _TileSource:
    cache = config.runtime.cache
    known = {row.slide_id: row.patient_id for row in cohort.rows} if cohort else None
    if config.views:
        first = EmbeddingDirectory(config.views[0].embeddings)
        names = list(known or first.slide_ids)
        found = open_views(config.views, names, cache)
        patients = known or first.patient_ids
        used = {s: patients[s] for s in found.features.slide_ids}
        source = _TileSource(
            found.features, lambda i: found.places[i], used, found.mpp, found.widths,
            found.digest, found.encoder, found.notes,
            tuple(EmbeddingDirectory(view.embeddings) for view in config.views),
            found.failures,
        )  # fmt: skip
    else:
        assert config.embeddings is not None
        directory = EmbeddingDirectory(config.embeddings, config.colour)
        mpp = directory.choose_scale(config.scale)
        features = open_features(directory, mpp, cache)
        patients = known or directory.patient_ids
        used = {s: patients[s] for s in directory.slide_ids if s in patients}
        missing = sorted(set(known or ()) - set(used))
        source = _TileSource(
            features,
            lambda i: read_places(directory, directory.slide_ids[i], mpp, True),
            used, mpp, (features.dim,), directory.digest, directory.encoder,
            _not_embedded(missing), (directory,),
        )  # fmt: skip
    if not source.slide_patients:
        raise InputError(f"{config.cohort}: none of its slides is embedded")
    return source


def _not_embedded(slides: Sequence[str]) -> tuple[str, ...]:
    """A line on the slides of a cohort that cannot take part; none without any."""
    if not slides:
        return ()
    more = ", ..." if slides[5:] else ""
    return (
        f"{len(slides)} slides of the cohort are not embedded: "
        f"{', '.join(slides[:5])}{more}",
    )


def _assemble(
    config: TileHeadConfig, source: _TileSource, labels: Labels, parts: Sequence[_Slide]
) -> TileSamples:
    names = labels.names
    classes = config.target.classes or tuple(sorted(names))
    order = {name: i for i, name in enumerate(classes)}
    codes = np.array([*(order.get(name, -1) for name in names), -1])
    kept = [np.flatnonzero(codes[part.code] >= 0) for part in parts]
    target = np.concatenate(
        [codes[p.code][rows] for p, rows in zip(parts, kept, strict=True)]
    ).astype(np.int64)
    _check_classes(classes, target, names)
    pairs = list(zip(parts, kept, strict=True))
    group_names = np.concatenate([p.group[rows] for p, rows in pairs]).astype(str)
    groups, group = np.unique(group_names, return_inverse=True)
    slides = source.features.slide_ids
    total = sum(len(p.code) for p in parts)
    notes = [*source.notes, *labels.notes]
    used = [p.number for p, rows in pairs if len(rows)]
    patients = {source.slide_patients[str(slides[number])] for number in used}
    notes += learned_notes(source.directories, patients)
    if total > len(target):
        notes.append(f"{total - len(target):,} of {total:,} tiles have no class here")
    return TileSamples(
        source.features,
        np.concatenate([np.full(len(rows), p.number) for p, rows in pairs]),
        np.concatenate([rows for _, rows in pairs]),
        np.concatenate([np.stack(p.place, 1)[rows] for p, rows in pairs]),
        target,
        group,
        tuple(map(str, groups)),
        classes,
        labels.folds_of(groups.tolist()),
        source.views,
        source.mpp,
        source.digest,
        source.encoder,
        tuple(notes),
        tuple(source.slide_patients.get(s, "") for s in source.features.slide_ids),
        failures=source.failures,
        tile_px=tuple(directory.tile_px for directory in source.directories),
    )


def _check_classes(
    classes: Sequence[str], target: np.ndarray, have: Sequence[str]
) -> None:
    """Refuse a class that cannot be learned; ``have``: all that tiles belong to."""
    counts = np.bincount(target, minlength=len(classes))
    for name, num in zip(classes, counts, strict=True):
        if num < 2:
            known = f" (tiles have {', '.join(map(repr, sorted(have)))})"
            raise InputError(
                f"target: class {name!r} has {num} tile(s) among the embedded ones"
                f"{'' if num else known}: a class needs two; leave it out by "
                "target.classes, or embed more"
            )
    if len(classes) < 2:
        raise InputError(
            f"target: only {' '.join(map(repr, classes)) or 'no class'} has embedded "
            "tiles, and a classifier needs two classes"
        )
