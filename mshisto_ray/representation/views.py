"""Views of a tile: embeddings by several encoders, scales and colours, side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mshisto_ray.config import Config, InputError, InputPath, option
from mshisto_ray.representation.joining import join_slide
from mshisto_ray.representation.left_out import LeftOut
from mshisto_ray.store.cache import CacheConfig, open_features
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.features import Features
from mshisto_ray.store.manifest import differences
from mshisto_ray.store.same_slides import explain_other_files

_TOLERANCE = 1e-6


class ViewConfig(Config):
    """One view: an encoder's embeddings at a scale, of a colour mode."""

    embeddings: InputPath = option(text="directory that mshisto embed made")
    mpp: float = option(text="scale", unit="um/px", gt=0)
    colour: str | None = option(None, "rgb or gray; null: the first of the embeddings")


@dataclass(frozen=True)
class ViewFeatures:
    """Features of tiles whose views are concatenated, slide by slide.

    ``parts``: of each view; ``place``: a slide's index in each of ``parts``;
    ``rows``: for each slide and view, the row of each of its N tiles, int [V, N].
    """

    slide_ids: Sequence[str]
    parts: tuple[Features, ...]
    place: Sequence[Sequence[int]]
    rows: Sequence[np.ndarray]

    @property
    def dim(self) -> int:
        """Columns of all views together."""
        return sum(part.dim for part in self.parts)

    @property
    def counts(self) -> np.ndarray:
        """Tiles of each slide, int64 [S]."""
        return np.array([rows.shape[1] for rows in self.rows], np.int64)

    def read(self, index: int) -> np.ndarray:
        """Tiles [N, D] of a slide, by row and column, a view after the other."""
        rows, place = self.rows[index], self.place[index]
        return np.concatenate(
            [
                np.asarray(part.read(place[v]))[rows[v]]
                for v, part in enumerate(self.parts)
            ],
            axis=1,
        )


@dataclass(frozen=True)
class Views:
    """Joined views.

    ``widths``: columns of each view; ``mpp``: of the tiles, the finest of the views;
    ``places``: (row, col) of each slide's tiles; ``digest``: of all embeddings and the
    order of the views; ``encoder``: what a head records of them; ``notes``: how many
    slides and tiles were dropped, or lie as near to a second parent; ``failures``:
    which were dropped.
    """

    features: ViewFeatures
    widths: tuple[int, ...]
    mpp: float
    places: tuple[tuple[np.ndarray, np.ndarray], ...]
    digest: str
    encoder: Mapping[str, Any]
    notes: tuple[str, ...]
    failures: tuple[Failure, ...]


def open_views(
    views: Sequence[ViewConfig], slide_ids: Collection[str], cache: CacheConfig
) -> Views:
    """Join views of the slides that all of them have, by tile identity.

    The tiles are the own tiles of the finest scale; a coarser view gives the embedding
    of the parent: (row // k, col // k), or, where one of the views was imported, the
    tile around the centre. A tile that a view lacks is dropped.

    Args:
        views: in the order of their columns.
        slide_ids: slides that will be read.
        cache: the node cache.

    Raises:
        InputError: a scale or colour that a directory lacks, scales that are no
            multiples of the finest, embeddings of different grids or slide files.
    """
    directories = [EmbeddingDirectory(view.embeddings) for view in views]
    factors = check_views(views, directories)
    kept = sorted(
        set(slide_ids).intersection(*(directory.slide_ids for directory in directories))
    )
    parts = tuple(
        open_features(directory, view.mpp, cache, own_only=False, colour=view.colour)
        for directory, view in zip(directories, views, strict=True)
    )
    order = [{name: i for i, name in enumerate(part.slide_ids)} for part in parts]
    scales = [view.mpp for view in views]
    joined = [join_slide(scales, directories, factors, slide_id) for slide_id in kept]
    place = [[names[slide_id] for names in order] for slide_id in kept]
    features = ViewFeatures(kept, parts, place, [one.rows for one in joined])
    left = LeftOut(
        [(view.mpp, view.embeddings) for view in views],
        {d.path: sorted(set(slide_ids) - set(d.slide_ids)) for d in directories},
        dict(zip(kept, joined, strict=True)),
    )
    described = _described(views, directories)
    text = repr([(d.digest, v) for d, v in zip(directories, described, strict=True)])
    return Views(
        features,
        tuple(part.dim for part in parts),
        min(view.mpp for view in views),
        tuple(one.places for one in joined),
        hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
        {"views": described},
        left.notes(),
        left.failures("train"),
    )


def _described(
    views: Sequence[ViewConfig], directories: Sequence[EmbeddingDirectory]
) -> list[dict[str, Any]]:
    """What a head records of each view."""
    return [
        {
            "encoder": directory.manifest.recipe["encoder"],
            "mpp": view.mpp,
            "colour": view.colour or directory.colours[0],
        }
        for directory, view in zip(directories, views, strict=True)
    ]


def check_views(
    views: Sequence[ViewConfig], directories: Sequence[EmbeddingDirectory]
) -> list[int]:
    """How many times coarser each view is than the finest.

    Raises:
        InputError: see ``open_views``.
    """
    finest = min(view.mpp for view in views)
    factors = []
    first = directories[0]
    seen: dict[tuple[object, ...], int] = {}
    for number, (view, directory) in enumerate(zip(views, directories, strict=True)):
        colour = view.colour or directory.colours[0]
        same = seen.setdefault((view.embeddings, view.mpp, colour), number)
        if same != number:
            raise InputError(
                f"views.{number}: is views.{same} again ({view.mpp:g} um/px, {colour} "
                f"of {view.embeddings}): leave it out"
            )
        if view.mpp not in directory.scales:
            have = ", ".join(map(str, directory.scales))
            raise InputError(
                f"views.{number}.mpp: {view.mpp} is not in {view.embeddings}; have "
                f"{have}"
            )
        if view.colour and view.colour not in directory.colours:
            raise InputError(
                f"views.{number}.colour: {view.colour!r} is not in {view.embeddings}; "
                f"have {', '.join(directory.colours)}"
            )
        ratio = view.mpp / finest
        if abs(ratio - round(ratio)) > _TOLERANCE * ratio:
            raise InputError(
                f"views.{number}.mpp: {view.mpp:g} is not an integer multiple of the "
                f"finest, {finest:g}"
            )
        factors.append(round(ratio))
        _check_same_grid(number, first, directory)
    return factors


def _check_same_grid(
    number: int, first: EmbeddingDirectory, other: EmbeddingDirectory
) -> None:
    grids = [dict(d.manifest.recipe["tiles"]) for d in (first, other)]
    for grid in grids:  # a directory may hold more scales than are viewed
        grid.pop("scales", None)
    found = differences(*grids)
    if found and not (first.is_imported or other.is_imported):
        raise InputError(
            f"views.{number}: {other.path} embeds other tiles than {first.path} "
            f"({'; '.join(found)}): give embeddings of the same tiles"
        )
    known = first.knows_slides and other.knows_slides
    apart = explain_other_files(first.fingerprints, other.fingerprints)
    if known and apart:
        raise InputError(
            f"views.{number}: {other.path} embeds another file of {apart} than "
            f"{first.path}: run mshisto embed on the same tiles"
        )
    if not set(first.slide_ids) & set(other.slide_ids):
        raise InputError(
            f"views.{number}: no slide is in both {first.path} and {other.path}"
        )
