"""Slides and embeddings as arrays."""

from __future__ import annotations

import os
from pathlib import Path

from mshisto_ray import slides
from mshisto_ray.slides import Slide
from mshisto_ray.store.embeddings import EmbeddingDirectory, TileEmbeddings


def open_slide(path: str | os.PathLike[str], reader: str = slides.AUTO) -> Slide:
    """Open a whole slide image.

    Args:
        path: of the slide's file (of MRXS and DICOM, one of its files).
        reader: a part of the family ``slides``, as ``openslide``;
            ``auto`` takes OpenSlide and, for files that it does not open, the reader
            that declares their format.

    Returns:
        The open slide: ``levels`` (``width``, ``height``, ``downsample``; the finest
        first), ``mpp`` of level 0 (None where the file does not say it), ``vendor``,
        ``objective``, and ``read(level, x, y, width, height)``, which gives uint8
        [height, width, 3], with x, y in level-0 pixels and the sides in pixels of the
        level. ``close()`` it.

    Raises:
        SlideError: there is no such file, or it cannot be opened.
    """
    return slides.open_slide(Path(path).expanduser(), reader)


def read_embeddings(
    embeddings: str | os.PathLike[str],
    slide_id: str,
    mpp: float | None = None,
    *,
    own_only: bool = True,
    colour: str | None = None,
) -> TileEmbeddings:
    """Read the embedded tiles of a slide at one scale.

    Args:
        embeddings: directory that the job ``embed`` or ``import_h5`` wrote.
        slide_id: of the slide.
        mpp: scale in micrometres per pixel; None: the finest.
        own_only: only tiles with enough tissue of their own, those that bags of one
            scale hold; False: also those that are there for their finer tiles.
        colour: ``rgb`` or ``gray``; None: the first that was embedded.

    Returns:
        ``values`` [N, D], in the precision of the file, and the tiles' ``row``,
        ``col``, ``x``, ``y``, ``extent``, ``tissue``, ``own``, each [N], sorted by
        (row, col); N is 0 where the slide has no tile at the scale.

    Raises:
        InputError: no finished embeddings, or no such slide, scale or colour in them.
    """
    directory = EmbeddingDirectory(Path(embeddings).expanduser())
    scale = directory.scales[0] if mpp is None else mpp
    return directory.read(slide_id, scale, own_only, colour)
