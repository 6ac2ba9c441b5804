"""Tiles of a slide for a head of views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mshisto_ray.mil.head import Head
from mshisto_ray.representation.joining import join_slide
from mshisto_ray.representation.left_out import tile_failures
from mshisto_ray.representation.views import ViewConfig, check_views
from mshisto_ray.store.embeddings import EmbeddingDirectory, TileEmbeddings
from mshisto_ray.store.failures import Failure

_PLACE = ("mpp", "row", "col", "x", "y", "extent", "tissue", "own")


def views_of(head: Head) -> Sequence[Mapping[str, Any]]:
    """Encoder, mpp and colour of each view, in order; empty for other heads."""
    return (head.encoder or {}).get("views", ())


def checked_views(
    head: Head, directories: Sequence[EmbeddingDirectory]
) -> tuple[list[ViewConfig], list[int]]:
    """The views of a head of views in directories, and how coarse each is.

    Raises:
        InputError: see ``check_views``.
    """
    views = [
        ViewConfig(embeddings=directory.path, mpp=view["mpp"], colour=view["colour"])
        for directory, view in zip(directories, views_of(head), strict=True)
    ]
    return views, check_views(views, directories)


def read_views(
    head: Head, directories: Sequence[EmbeddingDirectory], slide_id: str
) -> tuple[TileEmbeddings, list[Failure]]:
    """Own tiles of the finest view with the embeddings of all views side by side.

    A tile that a view lacks is left out, as in training: a failure for each tile, or
    parent of tiles, that a view lacks.

    Args:
        head: of views.
        directories: of each view, in order.
        slide_id: a slide that is in all of them.

    Raises:
        InputError: see ``check_views``.
    """
    views, factors = checked_views(head, directories)
    scales = [view.mpp for view in views]
    joined = join_slide(scales, directories, factors, slide_id)
    rows = joined.rows
    parts = [
        directory.read(slide_id, view.mpp, own_only=False, colour=view.colour)
        for directory, view in zip(directories, views, strict=True)
    ]
    finest = factors.index(1)
    kept = rows[finest]
    place = {name: getattr(parts[finest], name)[kept] for name in _PLACE}
    values = [part.values[own] for part, own in zip(parts, rows, strict=True)]
    failures = [
        failure
        for view, absent in zip(views, joined.absent, strict=True)
        for failure in tile_failures(
            "predict", slide_id, view.mpp, view.embeddings, absent
        )
    ]
    whole = np.concatenate(values, axis=1)
    return replace(parts[finest], **place, values=whole), failures
