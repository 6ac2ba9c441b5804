"""Bags with their targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from mshisto_ray.learning.labelled import LabelledRows, numbered
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.targets import Target, TargetConfig, left_out
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.input.copies import copy_notes
from mshisto_ray.mil.input.labels import (
    by_patient,
    labelled,
    of_rows,
    with_groups,
)
from mshisto_ray.mil.input.scales import FinerScale
from mshisto_ray.mil.input.source import BagRow, BagSource, open_source
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.features import Features

# Rows between slides of a bag: more than any slide has.
_APART = 1 << 24


@dataclass(frozen=True)
class BagTiles:
    """The tiles of one bag.

    ``values``: embeddings of each scale, coarsest first, [N, D]; ``parents``: for each
    finer scale int64 [N], the row of a tile's parent among those of the scale before.
    """

    values: tuple[np.ndarray, ...]
    parents: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Bags:
    """B bags over the slides of ``features``.

    ``names``: identity of each bag (slide, patient, or the table's bag);
    ``members``: places in ``features`` of each bag's slides; ``slide_ids``: None
    where a bag is not one slide; ``targets``: class index int64 [B], or the truth
    [B, ...] of another ``kind`` of target, whose names are then ``classes``; None where
    labels are not needed; ``folds``: given folds as text, None where there are none;
    ``sizes``: instances of each bag, int64 [B] (0: no tile at this scale);
    ``finer``: tiles of finer scales linked to the instances, if any; ``views``: columns
    of each view of an instance, None for one; ``places``: reads the grid row and column
    of a slide's instances, int64 [N, 2], by its place in ``features``, None where they
    are not known; ``digest``: of
    embeddings or table; ``encoder``: of the embeddings, None for a table; ``notes``:
    slides or bags left out, one line per reason; ``unit``: what a bag is, ``slide`` or
    ``patient``; ``fingerprints``: of the labelled slides' files, each with its patient;
    ``groups``: what stays together in folds in place of patients, None where nothing;
    ``failures``: slides and tiles that a view lacks; ``tile_px``: side of the tiles of
    each scale or view, empty for a table.
    """

    features: Features
    names: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    slide_ids: tuple[str | None, ...]
    patient_ids: tuple[str, ...]
    targets: np.ndarray | None
    classes: tuple[str, ...]
    folds: tuple[str | None, ...] | None
    sizes: np.ndarray
    digest: str
    encoder: Mapping[str, Any] | None
    scale: float | None
    notes: tuple[str, ...]
    finer: tuple[FinerScale, ...] = ()
    kind: Target = field(default_factory=lambda: TargetConfig().build())
    unit: Literal["slide", "patient"] = "slide"
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    views: tuple[int, ...] | None = None
    places: Callable[[int], np.ndarray] | None = None
    groups: tuple[str | None, ...] | None = None
    failures: tuple[Failure, ...] = ()
    tile_px: tuple[int | None, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of an embedding at each scale, coarsest first."""
        return (self.features.dim, *(scale.features.dim for scale in self.finer))

    @property
    def scales(self) -> tuple[float, ...] | None:
        """The scales that an instance holds, coarsest first; None for one or none."""
        if not self.finer or self.scale is None:
            return None
        return (self.scale, *(scale.mpp for scale in self.finer))

    @cached_property
    def identity(self) -> str:
        """Digest of what a result depends on: instances, patients, labels, folds."""
        assert self.targets is not None
        columns = (self.names, self.patient_ids, self.targets.tolist(), self.members)
        scale = self.scales or self.scale
        given = (self.digest, scale, self.classes, self.folds, columns)
        text = repr(given if self.groups is None else (*given, self.groups))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def rows(self, split: SplitConfig) -> LabelledRows:
        """The bags with their targets; those without instances are not usable."""
        assert self.targets is not None
        owners = self.groups if split.together else self.patient_ids
        assert owners is not None
        given = numbered(self.patient_ids), numbered(owners), self.sizes > 0
        return LabelledRows(self.kind, self.targets, self.classes, *given)

    def about(self, split: SplitConfig) -> dict[str, Any]:
        """Where the bags and their folds came from, as JSON.

        Of classes without the kind of the target, as before there were others.
        """
        target = dict(self.kind.settings)
        if self.kind.of_classes:
            target.pop("kind", None)
        split_values = split.model_dump(mode="json")
        return {"unit": self.unit, "target": target, "split": split_values}

    def read(self, index: int) -> list[np.ndarray]:
        """Instances of a bag, an array [N, D] per slide."""
        return [self.features.read(member) for member in self.members[index]]

    def bag(self, index: int) -> BagTiles:
        """A bag with all of its tiles in memory."""
        members = self.members[index]
        values = [self.features.read(member) for member in members]
        whole = [np.concatenate([np.zeros((0, self.features.dim)), *values])]
        parents = []
        for scale in self.finer:
            found = [scale.read(member) for member in members]
            whole.append(np.concatenate([np.zeros((0, scale.features.dim)), *found]))
            counts = [scale.children[member].counts for member in members]
            each = np.concatenate([np.zeros(0, np.int64), *counts])
            parents.append(np.arange(len(each)).repeat(each))
        return BagTiles(tuple(whole), tuple(parents))

    def bag_places(self, index: int) -> np.ndarray:
        """Row and column of a bag's instances, int64 [N, 2], its slides far apart."""
        assert self.places is not None
        members = enumerate(self.members[index])
        found = [np.add(self.places(m), (k * _APART, 0)) for k, m in members]
        return np.concatenate([np.zeros((0, 2), np.int64), *found])

    def take(self, indices: Sequence[int] | np.ndarray) -> Bags:
        """Some of the bags, in this order."""
        index = np.asarray(indices, dtype=np.int64)

        def some(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[i] for i in index)

        return replace(
            self,
            names=some(self.names),
            members=some(self.members),
            slide_ids=some(self.slide_ids),
            patient_ids=some(self.patient_ids),
            targets=None if self.targets is None else self.targets[index],
            folds=None if self.folds is None else some(self.folds),
            groups=None if self.groups is None else some(self.groups),
            sizes=self.sizes[index],
        )


def read_bags(
    config: InputConfig,
    target: TargetConfig | None,
    fold_column: str | None,
    cache: CacheConfig,
    group_column: str | None = None,
) -> Bags:
    """Bags of the input; with a target, those that have a label.

    Bags without an instance stay in the result (``sizes`` 0), so that folds do not
    depend on which embeddings exist; training skips them.

    Raises:
        InputError: unreadable input, no such column or scale, a class that does not
            occur, a patient with two labels where ``unit`` is patient, or one slide
            under two patients.
    """
    kind = (target or TargetConfig()).build()
    group = group_column if target else None
    columns = (*(kind.columns if target else ()), *((group,) if group else ()))
    source = open_source(config, columns, fold_column, cache)
    rows, notes = with_groups(source.rows, group), list(source.notes)
    classes: tuple[str, ...] = ()
    truth = np.zeros(0, np.int64)
    if target:
        rows, truth, classes = labelled(rows, kind, source.what, notes)
        notes += copy_notes(rows, source.features, source.fingerprints)
    whole = config.unit == "slide"
    groups = [[row] for row in rows] if whole else by_patient(rows)
    members = tuple(tuple(r.member for r in g if r.member >= 0) for g in groups)
    counts = source.features.counts
    sizes = np.array([sum(counts[m] for m in bag) for bag in members], dtype=np.int64)
    notes += _empty(groups, sizes, source)
    is_slide = whole and not config.bags
    return Bags(
        features=source.features,
        names=tuple(g[0].name if whole else g[0].patient_id for g in groups),
        members=members,
        slide_ids=tuple(g[0].name if is_slide else None for g in groups),
        patient_ids=tuple(g[0].patient_id for g in groups),
        targets=of_rows([g[0] for g in groups], rows, truth) if target else None,
        classes=classes,
        folds=tuple(g[0].fold for g in groups) if source.has_fold else None,
        sizes=sizes,
        digest=source.digest,
        encoder=source.encoder,
        scale=source.scale,
        notes=tuple(notes),
        finer=source.finer,
        kind=kind,
        unit=config.unit,
        fingerprints={
            source.fingerprints[row.name]: row.patient_id
            for row in rows
            if target and row.name in source.fingerprints
        },
        views=source.views,
        places=source.places,
        failures=source.failures,
        tile_px=source.tile_px,
        groups=tuple(g[0].group for g in groups) if group else None,
    )


def _empty(
    groups: Sequence[Sequence[BagRow]], sizes: np.ndarray, source: BagSource
) -> list[str]:
    """Notes on bags without an instance, one line per reason."""
    empty = [g for g, size in zip(groups, sizes, strict=True) if size == 0]
    absent = [r.name for g in groups for r in g if r.member < 0]
    without = [r.name for g in empty for r in g if r.member >= 0]
    total = sum(len(g) for g in groups)
    notes = []
    if absent:
        notes.append(left_out(absent, total, source.what, "no complete embeddings"))
    if without:
        reason = f"no tile at {source.scale} um/px"
        notes.append(left_out(without, total, source.what, reason))
    return notes
