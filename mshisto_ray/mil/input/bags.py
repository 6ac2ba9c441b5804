"""Bags with their targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mshisto_ray.mil.input.config import InputConfig, TargetConfig
from mshisto_ray.mil.input.labels import by_patient, labelled, left_out
from mshisto_ray.mil.input.scales import FinerScale
from mshisto_ray.mil.input.source import BagRow, BagSource, open_source
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.features import Features


@dataclass(frozen=True)
class Bags:
    """B bags over the slides of ``features``.

    ``names``: identity of each bag (slide, patient, or the table's bag);
    ``members``: places in ``features`` of each bag's slides; ``slide_ids``: None
    where a bag is not one slide; ``targets``: class index int64 [B], None where
    labels are not needed; ``folds``: given folds as text, None where there are none;
    ``sizes``: instances of each bag, int64 [B] (0: no tile at this scale);
    ``finer``: tiles of finer scales linked to the instances, if any; ``views``: columns
    of each view of an instance, None for one; ``digest``: of
    embeddings or table; ``encoder``: of the embeddings, None for a table; ``notes``:
    slides or bags left out, one line per reason.
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
    views: tuple[int, ...] | None = None

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
        text = repr((self.digest, scale, self.classes, self.folds, columns))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def read(self, index: int) -> list[np.ndarray]:
        """Instances of a bag, an array [N, D] per slide."""
        return [self.features.read(member) for member in self.members[index]]


def read_bags(
    config: InputConfig,
    target: TargetConfig | None,
    fold_column: str | None,
    cache: CacheConfig,
) -> Bags:
    """Bags of the input; with a target, those that have a label.

    Bags without an instance stay in the result (``sizes`` 0), so that folds do not
    depend on which embeddings exist; training skips them.

    Raises:
        InputError: unreadable input, no such column or scale, a class that does not
            occur, or a patient with two labels where ``unit`` is patient.
    """
    column = target.column if target else None
    source = open_source(config, column, fold_column, cache)
    rows, notes = source.rows, list(source.notes)
    classes: tuple[str, ...] = ()
    if target:
        rows, classes = labelled(rows, target, source.what, notes)
    whole = config.unit == "slide"
    groups = [[row] for row in rows] if whole else by_patient(rows)
    members = tuple(tuple(r.member for r in g if r.member >= 0) for g in groups)
    counts = source.features.counts
    sizes = np.array([sum(counts[m] for m in bag) for bag in members], dtype=np.int64)
    notes += _empty(groups, sizes, source)
    is_slide = whole and not config.bags
    index = {name: i for i, name in enumerate(classes)}
    labels = [index[g[0].label] for g in groups if target and g[0].label is not None]
    return Bags(
        features=source.features,
        names=tuple(g[0].name if whole else g[0].patient_id for g in groups),
        members=members,
        slide_ids=tuple(g[0].name if is_slide else None for g in groups),
        patient_ids=tuple(g[0].patient_id for g in groups),
        targets=np.array(labels, dtype=np.int64) if target else None,
        classes=classes,
        folds=tuple(g[0].fold for g in groups) if source.has_fold else None,
        sizes=sizes,
        digest=source.digest,
        encoder=source.encoder,
        scale=source.scale,
        notes=tuple(notes),
        finer=source.finer,
        views=source.views,
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
