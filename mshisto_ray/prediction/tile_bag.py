"""One bag of embedded tiles, as the input of a head."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.mil.head import Head
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.input.scales import FinerScale, check_scales, link_scales
from mshisto_ray.prediction.views import read_views, views_of
from mshisto_ray.store.embeddings import COLOUR, EmbeddingDirectory, TileEmbeddings
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.store.links import Children
from mshisto_ray.store.same_place import Corners

_ROWS = ("mpp", "row", "col", "x", "y", "extent", "tissue", "own", "values")


@dataclass(frozen=True)
class SlideTiles:
    """Tiles of a slide as a head takes them.

    ``tiles``: the instances; ``finer``: for each finer scale its tiles, parent by
    parent; ``children``: for each finer scale its links, rows counting from 0;
    ``failures``: tiles that a view lacks.
    """

    tiles: TileEmbeddings
    finer: tuple[TileEmbeddings, ...] = ()
    children: tuple[Children, ...] = ()
    failures: tuple[Failure, ...] = ()


def in_colours(
    head: Head, directories: Sequence[EmbeddingDirectory]
) -> list[EmbeddingDirectory]:
    """Directories, one a scale, in the colours that a head was trained on.

    Those of views are as they are: ``read_views`` reads the colour of each.

    Raises:
        InputError: a directory without the colour.
    """
    if views_of(head):
        return list(directories)
    scales = head.scales or (head.scale,)
    return [
        directory.in_colour(head.encoder_at(mpp).get(COLOUR) if mpp else None)
        for directory, mpp in zip(directories, scales, strict=True)
    ]


def read_slide(
    head: Head, directories: Sequence[EmbeddingDirectory], slide_id: str
) -> SlideTiles:
    """Read own tiles at the head's (coarsest) scale, with all finer tiles within them.

    Args:
        head: a head of embeddings.
        directories: one per scale, coarsest first, or one per view, in order.
        slide_id: a slide that is in all of them.
    """
    if views_of(head):
        tiles, failures = read_views(head, directories, slide_id)
        return SlideTiles(tiles, failures=tuple(failures))
    if head.scales is None:
        assert head.scale is not None
        return SlideTiles(directories[0].read(slide_id, head.scale))
    parts = [
        directory.read(slide_id, mpp, own_only=mpp == head.scale)
        for directory, mpp in zip(directories, head.scales, strict=True)
    ]
    places = [(part.row, part.col) for part in parts]
    corners = [Corners(part.x, part.y, part.extent) for part in parts]
    factors = check_scales(directories, head.scales)
    linked = [
        one.children
        for one in link_scales(directories, factors, places, corners.__getitem__)
    ]
    finer = tuple(
        dataclasses.replace(
            part, **{name: getattr(part, name)[found.rows] for name in _ROWS}
        )
        for part, found in zip(parts[1:], linked, strict=True)
    )
    children = tuple(
        Children(np.arange(len(found.rows)), found.counts) for found in linked
    )
    return SlideTiles(parts[0], finer, children)


def as_bags(
    head: Head, name: str, patient_id: str, slides: Sequence[SlideTiles]
) -> Bags:
    """The slides as one bag, in memory."""
    sizes = np.array([len(slide.tiles.row) for slide in slides], np.int64)
    slide_ids = tuple(slide.tiles.slide_id for slide in slides)
    places = {i: i for i in range(len(slides))}
    finer = tuple(
        FinerScale(
            mpp,
            _features(slide_ids, [slide.finer[i] for slide in slides]),
            places,
            {place: slide.children[i] for place, slide in enumerate(slides)},
        )
        for i, mpp in enumerate((head.scales or ())[1:])
    )
    return Bags(
        features=_features(slide_ids, [slide.tiles for slide in slides]),
        names=(name,),
        members=(tuple(places),),
        slide_ids=(name if slide_ids == (name,) else None,),
        patient_ids=(patient_id,),
        targets=None,
        classes=head.classes,
        folds=None,
        sizes=sizes.sum(keepdims=True),
        digest="",
        encoder=head.encoder,
        tile_px=head.tile_px,
        scale=head.scale,
        notes=(),
        finer=finer,
        places=[
            np.stack([slide.tiles.row, slide.tiles.col], 1).astype(np.int64)
            for slide in slides
        ].__getitem__,
    )


def _features(
    slide_ids: tuple[str, ...], parts: Sequence[TileEmbeddings]
) -> ArrayFeatures:
    ends = np.cumsum([0, *(len(part.row) for part in parts)]).astype(np.int64)
    return ArrayFeatures(slide_ids, np.concatenate([p.values for p in parts]), ends)
