"""Bags restricted to the area that a pathologist has annotated."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from mshisto_ray.evaluation.localisation import annotated
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import SelectedFeatures
from mshisto_ray.store.links import Children, read_places
from mshisto_ray.store.tiles import TileDirectory


def restrict(
    bags: Bags,
    directories: Sequence[EmbeddingDirectory],
    tiles: TileDirectory,
    name: str,
    min_annotated: float,
) -> Bags:
    """The same bags with only their annotated tiles, at every scale.

    A bag without annotated tiles is kept with no instance; an instance whose finer
    tiles are not annotated is kept without them.

    Args:
        bags: of embeddings.
        directories: of each scale, coarsest first.
        tiles: the tiles that were embedded, with their annotations.
        name: class of annotation.
        min_annotated: least share of a tile inside it; a tile on its edge shows what
            lies outside, too.

    Source: Tan et al. 2023, section 4: the annotated tumour area at inference.
    """
    assert bags.scale is not None
    scales = bags.scales or (bags.scale,)
    rows: dict[int, np.ndarray] = {}
    children: list[dict[int, Children]] = [{} for _ in bags.finer]
    for member in sorted({m for members in bags.members for m in members}):
        slide_id = bags.features.slide_ids[member]
        marks = []
        for directory, mpp in zip(directories, scales, strict=True):
            row, col = read_places(directory, slide_id, mpp, mpp == scales[0])
            identity = [np.full(len(row), mpp), row, col]
            marks.append(annotated(tiles, slide_id, identity, name, min_annotated))
        rows[member] = np.flatnonzero(marks[0])
        kept = marks[0]
        for scale, mark, held in zip(bags.finer, marks[1:], children, strict=True):
            whole = scale.children[member]
            held[member], kept = _keep(whole, kept, mark[whole.rows])
    features = SelectedFeatures(bags.features, rows)
    sizes = [sum(len(rows[m]) for m in members) for members in bags.members]
    finer = tuple(
        dataclasses.replace(scale, children=held)
        for scale, held in zip(bags.finer, children, strict=True)
    )
    places = bags.places and partial(_selected, bags.places, rows)
    return dataclasses.replace(
        bags,
        features=features,
        sizes=np.array(sizes, np.int64),
        finer=finer,
        places=places,
    )


def _selected(
    places: Callable[[int], np.ndarray], rows: Mapping[int, np.ndarray], member: int
) -> np.ndarray:
    return places(member)[rows[member]]


def fingerprint(
    tiles: TileDirectory, slide_ids: Sequence[str], name: str, min_annotated: float
) -> str:
    """Digest of which tiles of these slides are annotated as ``name``."""
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    for slide_id in slide_ids:
        if slide_id in tiles.slides:
            table = tiles.read(slide_id)
            places = [table[key].to_numpy() for key in ("mpp", "row", "col")]
            marked = annotated(tiles, slide_id, places, name, min_annotated)
            digest.update(slide_id.encode())
            for column in places:
                digest.update(column[marked].astype(float).tobytes())
    return digest.hexdigest()


def _keep(
    whole: Children, parents: np.ndarray, marked: np.ndarray
) -> tuple[Children, np.ndarray]:
    """Marked children of the kept parents, and a mask of them over all children."""
    parent = np.repeat(np.arange(len(whole.counts)), whole.counts)
    kept = parents[parent] & marked
    counts = np.bincount(parent[kept], minlength=len(whole.counts))
    return Children(whole.rows[kept], counts[parents]), kept
