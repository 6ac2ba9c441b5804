"""Labelled images, embedded by an encoder in this process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.encoders import Encoder
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.image_table import Images

_AT_ONCE = 16


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
