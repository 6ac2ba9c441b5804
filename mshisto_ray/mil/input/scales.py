"""The finer tiles of a bag's coarse tiles, where a bag holds several scales."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.store.cache import CacheConfig, open_features
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import Features
from mshisto_ray.store.links import Children, grid_parents, link, read_places
from mshisto_ray.store.same_place import (
    Corners,
    check_parents,
    find_parents,
    read_corners,
    sides_ratio,
)

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class FinerScale:
    """All tiles of a finer scale, linked to those of the next coarser one in bags.

    ``place``: index of a slide in ``features``, by its index in the coarsest scale's
    features; ``children``: its links, by the same index.
    """

    mpp: float
    features: Features
    place: Mapping[int, int]
    children: Mapping[int, Children]

    @property
    def dim(self) -> int:
        """Width D of an embedding."""
        return self.features.dim

    def read(self, member: int) -> np.ndarray:
        """Tiles [M, D] of a slide, parent by parent."""
        values = self.features.read(self.place[member])
        return values[self.children[member].rows]


@dataclass(frozen=True)
class Chain:
    """Slides at several scales: own tiles of the coarsest, each with its finer ones.

    ``notes``: how many tiles of imported scales have no parent, or two equally near.
    """

    features: Features
    finer: tuple[FinerScale, ...]
    members: Mapping[str, int]
    digest: str
    encoder: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def open_chain(
    directories: Sequence[EmbeddingDirectory],
    scales: Sequence[float],
    slide_ids: Collection[str],
    cache: CacheConfig,
) -> Chain:
    """Open slides at a chain of scales.

    Instances are tiles with enough tissue themselves (``own``), as in bags of one
    scale; finer tiles are all that exist within them: in their cell of the slide's
    grid, or, where a scale was imported, with their centre in it.

    Args:
        directories: one per scale, coarsest first (the same one, or one an encoder).
        scales: coarsest first.
        slide_ids: which slides will be read.
        cache: the node cache.

    Raises:
        InputError: see ``check_scales``; or imported scales, most of whose tiles lie in
            no coarser one.
    """
    factors = check_scales(directories, scales)
    features = [
        open_features(directory, mpp, cache, own_only=mpp == scales[0])
        for directory, mpp in zip(directories, scales, strict=True)
    ]
    places = [{name: i for i, name in enumerate(f.slide_ids)} for f in features]
    wanted = [s for s in slide_ids if all(s in place for place in places)]
    members = {slide_id: places[0][slide_id] for slide_id in wanted}
    children: list[dict[int, Children]] = [{} for _ in factors]
    lonely = np.zeros((len(factors), 2), np.int64)
    for slide_id, member in members.items():
        tiles = [
            read_places(directory, slide_id, mpp, own_only=mpp == scales[0])
            for directory, mpp in zip(directories, scales, strict=True)
        ]
        corners = partial(_corners, directories, scales, slide_id)
        found = link_scales(directories, factors, tiles, corners)
        for one, linked, held in zip(found, lonely, children, strict=True):
            held[member] = one.children
            linked += one.without_parent, one.ties
    finer = tuple(
        FinerScale(mpp, own, {members[s]: place[s] for s in wanted}, held)
        for mpp, own, place, held in zip(
            scales[1:], features[1:], places[1:], children, strict=True
        )
    )
    return Chain(
        features[0], finer, members, _digest(directories, scales),
        {str(m): d.encoder
         for d, m in zip(directories, scales, strict=True)},
        _notes(directories, scales, lonely),
    )  # fmt: skip


@dataclass(frozen=True)
class LinkedScale:
    """A finer scale of one slide.

    ``without_parent``: its tiles in no coarser one; ``ties``: tiles in two equally
    near, of which the first is taken. Both 0 in the slide's own grid, which has every
    parent or lacks it for a reason that its failures name.
    """

    children: Children
    without_parent: int = 0
    ties: int = 0


def link_scales(
    directories: Sequence[EmbeddingDirectory],
    factors: Sequence[int],
    places: Sequence[tuple[np.ndarray, np.ndarray]],
    corners: Callable[[int], Corners],
) -> list[LinkedScale]:
    """Link a slide's tiles of each finer scale to those of the next coarser one.

    Args:
        directories: one per scale, coarsest first.
        factors: between neighbouring scales.
        places: (row, col) of each scale's tiles, sorted.
        corners: of the same tiles of a scale, by its number; of imports alone.

    Raises:
        InputError: imported scales, most of whose tiles lie in no coarser one.
    """
    num = len(places[0][0])
    if not any(directory.is_imported for directory in directories):
        linked = link(num, grid_parents(places, factors))
        return [LinkedScale(children) for children in linked]
    known = [corners(at) for at in range(len(directories))]
    parents = []
    for at, k in enumerate(factors):
        ratio = sides_ratio(directories[at], directories[at + 1], k)
        parents.append(find_parents(known[at], known[at + 1], ratio))
        paths = directories[at].path, directories[at + 1].path
        check_parents("scales", paths, known[at : at + 2], parents[-1], ratio)
    linked = link(num, [found.rows for found in parents])
    return [
        LinkedScale(children, int((found.rows < 0).sum()), found.ties)
        for children, found in zip(linked, parents, strict=True)
    ]


def _corners(
    directories: Sequence[EmbeddingDirectory],
    scales: Sequence[float],
    slide_id: str,
    at: int,
) -> Corners:
    return read_corners(directories[at], slide_id, scales[at], own_only=at == 0)


def _notes(
    directories: Sequence[EmbeddingDirectory],
    scales: Sequence[float],
    lonely: np.ndarray,
) -> tuple[str, ...]:
    """Lines on the counts [scales, 2] of tiles without a parent, and of ties."""
    notes = []
    for at, (alone, ties) in enumerate(lonely.tolist()):
        where = f"{scales[at + 1]:g} um/px in {directories[at + 1].path}"
        if alone:
            notes.append(
                f"scales: {alone} tiles of {where} are left out: their centre lies in "
                f"no tile of {scales[at]:g} um/px"
            )
        if ties:
            notes.append(
                f"scales: {ties} tiles of {where} are as near to a second tile of "
                f"{scales[at]:g} um/px: the first by row and column is their parent"
            )
    return tuple(notes)


def check_scales(
    directories: Sequence[EmbeddingDirectory], scales: Sequence[float]
) -> list[int]:
    """The integer ratios of neighbouring scales; InputError for any other scales."""
    for directory, mpp in zip(directories, scales, strict=True):
        if mpp not in directory.scales:
            have = ", ".join(map(str, directory.scales))
            raise InputError(f"scales: {mpp} is not in {directory.path}; have {have}")
    factors = []
    for coarse, fine in itertools.pairwise(scales):
        ratio = coarse / fine
        if round(ratio) < 2 or abs(ratio - round(ratio)) > _TOLERANCE * ratio:
            raise InputError(
                f"scales: {coarse:g} is not an integer multiple (2 or more) of "
                f"{fine:g}: give scales from the coarsest down, each a multiple of the "
                "next, as [2.0, 1.0]"
            )
        factors.append(round(ratio))
    return factors


def _digest(directories: Sequence[EmbeddingDirectory], scales: Sequence[float]) -> str:
    parts = [(d.digest, m) for d, m in zip(directories, scales, strict=True)]
    # Other than of earlier versions, where coarse tiles were not only own ones.
    text = repr(["own", *parts])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
