"""Tiles of one slide that several views have, by their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.links import find_places, read_places
from mshisto_ray.store.same_place import (
    are_same,
    check_parents,
    check_places,
    find_parents,
    read_corners,
    sides_ratio,
)


@dataclass(frozen=True)
class Absent:
    """Tiles that a view lacks, by (row, col).

    ``mpp``: of their grid: the view's, or the finest where grids differ; ``row``,
    ``col``: [M]; ``tiles``: how many of the finest view are dropped for each, [M].
    """

    mpp: float
    row: np.ndarray
    col: np.ndarray
    tiles: np.ndarray


@dataclass(frozen=True)
class JoinedSlide:
    """A slide's tiles that all views have.

    ``rows``: in each view, int [V, N]; ``places``: (row, col) in the finest, [N] each;
    ``lost``: tiles that each view lacked; ``ties``: tiles as near to a second parent
    in each; ``absent``: what each view lacks.
    """

    rows: np.ndarray
    places: tuple[np.ndarray, np.ndarray]
    lost: tuple[int, ...]
    ties: tuple[int, ...]
    absent: tuple[Absent, ...]


def join_slide(
    scales: Sequence[float],
    directories: Sequence[EmbeddingDirectory],
    factors: Sequence[int],
    slide_id: str,
) -> JoinedSlide:
    """The own tiles of the finest view of a slide that all other views have.

    Args:
        scales: of each view.
        directories: of each view.
        factors: how many times coarser each view is than the finest.
        slide_id: a slide that is in all of them.

    Raises:
        InputError: imported views, most of whose tiles lie elsewhere.
    """
    first = factors.index(1)
    row, col = read_places(directories[first], slide_id, scales[first], True)
    imported = any(directory.is_imported for directory in directories)
    if imported:
        found, ties = _by_corners(scales, directories, factors, slide_id)
    else:
        found = [
            find_places(read_places(directory, slide_id, mpp), (row // k, col // k))
            for mpp, directory, k in zip(scales, directories, factors, strict=True)
        ]
        ties = (0,) * len(scales)
    rows = np.stack(found)
    whole = (rows >= 0).all(0)
    lost = tuple((rows < 0).sum(1).tolist())
    # Imported views may lie on other grids: their tiles are named by the finest's.
    absent = tuple(
        _absent(row[own < 0], col[own < 0], *((scales[first], 1) if imported else grid))
        for own, grid in zip(rows, zip(scales, factors, strict=True), strict=True)
    )
    return JoinedSlide(rows[:, whole], (row[whole], col[whole]), lost, ties, absent)


def _absent(row: np.ndarray, col: np.ndarray, mpp: float, k: int) -> Absent:
    """The parents, k times coarser, of tiles whose embedding a view lacks."""
    places = np.stack([row // k, col // k], 1)
    parents, tiles = np.unique(places, axis=0, return_counts=True)
    return Absent(mpp, parents[:, 0], parents[:, 1], tiles)


def _by_corners(
    scales: Sequence[float],
    directories: Sequence[EmbeddingDirectory],
    factors: Sequence[int],
    slide_id: str,
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Rows of each view, [N], and ties, where tiles may lie on several grids."""
    first = factors.index(1)
    finest = directories[first]
    places = read_places(finest, slide_id, scales[first], True)
    fine = read_corners(finest, slide_id, scales[first], own_only=True)
    found, ties = [], []
    for number, (mpp, directory, k) in enumerate(
        zip(scales, directories, factors, strict=True)
    ):
        corners = read_corners(directory, slide_id, mpp)
        paths = directory.path, finest.path
        if k > 1:
            ratio = sides_ratio(directory, finest, k)
            parents = find_parents(corners, fine, ratio)
            key = f"views.{number}"
            check_parents(key, paths, (corners, fine), parents, ratio)
            found.append(parents.rows)
            ties.append(parents.ties)
            continue
        rows = find_places(read_places(directory, slide_id, mpp), places)
        held = np.flatnonzero(rows >= 0)
        pair = corners[rows[held]], fine[held]
        fits = are_same(*pair)
        check_places(f"views.{number}", paths, pair, fits)
        rows[held[~fits]] = -1
        found.append(rows)
        ties.append(0)
    return found, tuple(ties)
