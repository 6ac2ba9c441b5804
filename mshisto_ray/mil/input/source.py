"""Source of the bags: slides of a cohort with their embeddings, or a bag table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.given_folds import refuse_other_split
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.input.joined import join_cohort
from mshisto_ray.mil.input.scales import FinerScale, open_chain
from mshisto_ray.mil.input.table import read_bag_table
from mshisto_ray.representation.views import ViewConfig, open_views
from mshisto_ray.store.cache import CacheConfig, open_features
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.columns import looks_like_fold
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.features import Features, ParquetFeatures
from mshisto_ray.store.identity import doubtful_patient_notes, own_patient_note
from mshisto_ray.store.learned_labels import learned_notes
from mshisto_ray.store.links import read_member_places


@dataclass(frozen=True)
class BagRow:
    """A slide of the cohort, or a bag of a table.

    ``label``: its cells in the columns of the target; ``member`` -1: no embeddings;
    ``group``: what it stays together with in folds, None where nothing is.
    """

    name: str
    patient_id: str
    label: tuple[str | None, ...]
    fold: str | None
    member: int
    group: str | None = None


@dataclass(frozen=True)
class BagSource:
    """Rows and their features.

    ``what``: the noun for rows in messages; ``fingerprints``: of the slides' files, by
    slide_id, empty for a bag table; ``failures``: slides and tiles that a view lacks;
    ``tile_px``: side of the tiles of each scale or view, empty for a bag table.
    """

    rows: list[BagRow]
    features: Features
    what: str
    has_fold: bool
    digest: str
    encoder: Mapping[str, Any] | None
    scale: float | None
    notes: tuple[str, ...]
    finer: tuple[FinerScale, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    views: tuple[int, ...] | None = None
    places: Callable[[int], np.ndarray] | None = None
    failures: tuple[Failure, ...] = ()
    tile_px: tuple[int | None, ...] = ()


def open_source(
    config: InputConfig, labels: Sequence[str], fold: str | None, cache: CacheConfig
) -> BagSource:
    """Open the input: its rows with the given columns of a target, and the fold.

    Raises:
        InputError: unreadable input, or no such label column or scale. The fold
            column is optional.
    """
    if config.bags:
        return _table_source(config, labels, fold)
    cohort = read_cohort(_given(config.cohort), False, config.columns)
    if config.views:
        return _view_source(config.views, cohort, labels, fold, cache)
    if config.scales:
        return _chain_source(config, config.scales, cohort, labels, fold, cache)
    return _cohort_source(config, cohort, labels, fold, cache)


def _chain_source(
    config: InputConfig,
    scales: tuple[float, ...],
    cohort: Cohort,
    labels: Sequence[str],
    fold: str | None,
    cache: CacheConfig,
) -> BagSource:
    directories = [EmbeddingDirectory(p, config.colour) for p in config.directories]
    names = [row.slide_id for row in cohort.rows]
    chain = open_chain(directories, scales, names, cache)
    rows, has_fold = cohort_rows(cohort, chain.members, labels, fold)
    parts = (chain.features, *(scale.features for scale in chain.finer))
    notes = [*cohort.notes, *chain.notes, *_of_encoders(directories, cohort)]
    notes += (
        [_uncached(config.directories[0], cache)] if _are_slow(parts, cache) else []
    )
    for scale in chain.finer:
        none = [
            slide_id
            for slide_id, member in chain.members.items()
            if not len(scale.children[member].rows)
        ]
        if none:
            notes.append(
                f"{len(none)} of {len(names)} slides have no tile at {scale.mpp:g} "
                f"um/px, so no children there: {', '.join(none[:5])}"
            )
    return BagSource(
        rows, chain.features, "slides", has_fold, chain.digest, chain.encoder,
        scales[0], tuple(notes), chain.finer, directories[0].fingerprints,
        places=partial(read_member_places, directories[0], scales[0]),
        tile_px=_sides(directories, len(scales)),
    )  # fmt: skip


def _view_source(
    views: Sequence[ViewConfig],
    cohort: Cohort,
    labels: Sequence[str],
    fold: str | None,
    cache: CacheConfig,
) -> BagSource:
    found = open_views(views, [row.slide_id for row in cohort.rows], cache)
    place = {slide_id: i for i, slide_id in enumerate(found.features.slide_ids)}
    rows, has_fold = cohort_rows(cohort, place, labels, fold)
    notes = [*cohort.notes, *found.notes]
    directories = [EmbeddingDirectory(view.embeddings) for view in views]
    notes += _of_encoders(directories, cohort)
    if _are_slow(found.features.parts, cache):
        notes.append(_uncached(views[0].embeddings, cache))
    return BagSource(
        rows, found.features, "slides", has_fold, found.digest, found.encoder,
        found.mpp, tuple(notes), (), directories[0].fingerprints, found.widths,
        [np.stack(place, 1) for place in found.places].__getitem__, found.failures,
        _sides(directories, len(views)),
    )  # fmt: skip


def cohort_rows(
    cohort: Cohort, place: Mapping[str, int], labels: Sequence[str], fold: str | None
) -> tuple[list[BagRow], bool]:
    """One row per slide of the cohort, and whether the cohort has folds.

    ``place``: of each slide in the features, by slide_id; a slide may lack one.
    """
    columns = [cohort.column(label) for label in labels]
    has_fold = fold is not None and cohort.find(fold) is not None
    folds = cohort.column(fold) if fold and has_fold else {}
    if fold and not has_fold:
        names = looks_like_fold(cohort.column_names)
        others = {n: [row.columns[n] for row in cohort.rows] for n in names}
        refuse_other_split(cohort.path, fold, others)
    rows = [
        BagRow(
            name=slide.slide_id,
            patient_id=slide.patient_id,
            label=tuple(column.get(slide.slide_id) for column in columns),
            fold=folds.get(slide.slide_id),
            member=place.get(slide.slide_id, -1),
        )
        for slide in cohort.rows
    ]
    return rows, has_fold


def _of_encoders(
    directories: Sequence[EmbeddingDirectory], cohort: Cohort
) -> list[str]:
    """Lines on encoders that learned nothing, or from labels of this cohort."""
    paths = dict.fromkeys(str(d.path) for d in directories if d.has_random_weights)
    patients = {row.patient_id for row in cohort.rows}
    return [
        *(
            f"warning: the network of {path} has random weights: what is trained on "
            "its embeddings says nothing about a trained encoder"
            for path in paths
        ),
        *learned_notes(directories, patients),
    ]


def _are_slow(parts: Sequence[Features], cache: CacheConfig) -> bool:
    return bool(cache.max_gib) and any(isinstance(p, ParquetFeatures) for p in parts)


def _uncached(path: Path, cache: CacheConfig) -> str:
    return (
        f"{path}: does not fit the node cache "
        f"(runtime.cache.max_gib={cache.max_gib:g}); read from Parquet in every epoch"
    )


def _given(path: Path | None) -> Path:
    assert path is not None
    return path


def _cohort_source(
    config: InputConfig,
    cohort: Cohort,
    labels: Sequence[str],
    fold: str | None,
    cache: CacheConfig,
) -> BagSource:
    (path,) = config.directories
    directory = EmbeddingDirectory(path, config.colour)
    scale = directory.choose_scale(config.scale)
    place = {slide_id: i for i, slide_id in enumerate(directory.slide_ids)}
    rows, has_fold = cohort_rows(cohort, place, labels, fold)
    features = open_features(directory, scale, cache)
    notes = [*cohort.notes, *_of_encoders([directory], cohort)]
    notes += [_uncached(path, cache)] if _are_slow([features], cache) else []
    encoder = directory.encoder
    digest = directory.digest
    return BagSource(
        rows, features, "slides", has_fold, digest, encoder, scale, tuple(notes),
        fingerprints=directory.fingerprints,
        places=partial(read_member_places, directory, scale),
        tile_px=_sides([directory], 1),
    )  # fmt: skip


def _sides(
    directories: Sequence[EmbeddingDirectory], num: int
) -> tuple[int | None, ...]:
    """Side of the tiles of ``num`` scales or views, of one directory or one each."""
    sides = tuple(directory.tile_px for directory in directories)
    return sides if sides[1:] else sides * num


def _table_source(
    config: InputConfig, labels: Sequence[str], fold: str | None
) -> BagSource:
    assert config.bags
    wanted = {name for name in (*labels, "patient_id", fold) if name}
    if config.cohort:
        # The cohort's names of columns are not those of the table of bags.
        table = read_bag_table(config.bags, wanted)
        table = join_cohort(table, config.cohort, wanted, config.columns)
    else:
        table = read_bag_table(config.bags, wanted, config.columns)
    for label in labels:
        if label not in table.columns:
            have = ", ".join(table.column_names) or "none"
            where = config.cohort or config.bags
            raise InputError(f"{where}: no column {label!r}; have {have}")
    names = table.features.slide_ids
    nothing: list[str | None] = [None] * len(names)
    patients = table.columns.get("patient_id", nothing)
    cells = [tuple(table.columns[n][i] for n in labels) for i in range(len(names))]
    has_fold = fold in table.columns
    folds = table.columns[fold] if fold and has_fold else nothing
    if fold and not has_fold:
        refuse_other_split(config.cohort or config.bags, fold, table.splits)
    notes = list(table.notes)
    if "patient_id" in table.columns:
        notes += own_patient_note(patients, "bags")
        notes += doubtful_patient_notes(patients, "bags")
    rows = [
        BagRow(name, patients[i] or name, cells[i], folds[i], i)
        for i, name in enumerate(names)
    ]
    return BagSource(
        rows, table.features, "bags", has_fold, table.digest, None, None, tuple(notes)
    )
