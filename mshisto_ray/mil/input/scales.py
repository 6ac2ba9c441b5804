"""The finer tiles of a bag's coarse tiles, where a bag holds several scales."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.store.cache import CacheConfig, open_features
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import Features
from mshisto_ray.store.links import Children, find_places, link, read_places
from mshisto_ray.store.same_place import check_places, covers, read_corners

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
    """Slides at several scales: own tiles of the coarsest, each with its finer ones."""

    features: Features
    finer: tuple[FinerScale, ...]
    members: Mapping[str, int]
    digest: str
    encoder: Mapping[str, Any]


def open_chain(
    directories: Sequence[EmbeddingDirectory],
    scales: Sequence[float],
    slide_ids: Collection[str],
    cache: CacheConfig,
) -> Chain:
    """Open slides at a chain of scales.

    Instances are tiles with enough tissue themselves (``own``), as in bags of one
    scale; finer tiles are all that exist within them.

    Args:
        directories: one per scale, coarsest first (the same one, or one an encoder).
        scales: coarsest first.
        slide_ids: which slides will be read.
        cache: the node cache.

    Raises:
        InputError: see ``check_scales``.
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
    for slide_id, member in members.items():
        tiles = [
            read_places(directory, slide_id, mpp, own_only=mpp == scales[0])
            for directory, mpp in zip(directories, scales, strict=True)
        ]
        for found, held in zip(link(tiles, factors), children, strict=True):
            held[member] = found
        if any(directory.is_imported for directory in directories):
            _check_places(directories, scales, slide_id, tiles, factors)
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
    )  # fmt: skip


def _check_places(
    directories: Sequence[EmbeddingDirectory],
    scales: Sequence[float],
    slide_id: str,
    tiles: Sequence[tuple[np.ndarray, np.ndarray]],
    factors: Sequence[int],
) -> None:
    """Refuse parents that are linked by row and column and lie elsewhere."""
    corners = [
        read_corners(directory, slide_id, mpp)
        for directory, mpp in zip(directories, scales, strict=True)
    ]
    for at, k in enumerate(factors):
        row, col = tiles[at + 1]
        parent = find_places(tiles[at], (row // k, col // k))
        held = np.flatnonzero(parent >= 0)
        pair = corners[at][parent[held]], corners[at + 1][held]
        paths = directories[at].path, directories[at + 1].path
        check_places("scales", paths, pair, covers(*pair, k))


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
