"""A head and the embeddings that it is applied to, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mshisto_ray.config import InputError
from mshisto_ray.jobs._predict_config import OneHeadConfig, embedding_paths
from mshisto_ray.mil.head import Head
from mshisto_ray.mil.loading import open_head
from mshisto_ray.prediction.tile_bag import in_colours
from mshisto_ray.prediction.views import checked_views, views_of
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.tiles import TileDirectory


def open_inputs(config: OneHeadConfig) -> tuple[Head, list[EmbeddingDirectory]]:
    """The head, and a directory per scale or view of it.

    Raises:
        InputError: a head of a bag table; embeddings of another encoder, scale, colour
            or side of tiles than the head was trained on; views that do not fit each
            other; tiles of other slides than embedded.
    """
    head = open_head(config.head)
    if head.encoder is None or head.scale is None:
        raise InputError(
            f"{config.head}: was trained on a bag table, not on embeddings; there are "
            "no tiles to apply it to"
        )
    found = [EmbeddingDirectory(path) for path in embedding_paths(config, head)]
    directories = in_colours(head, found)
    parts = _parts(head)
    sides = head.tile_px or [None] * len(parts)
    for directory, part, side in zip(directories, parts, sides, strict=True):
        _check(directory, part["encoder"], part["mpp"], part.get("colour"))
        _check_side(directory, side)
    if views_of(head):
        checked_views(head, directories)
    if config.tiles:
        _check_tiles(TileDirectory(config.tiles), directories[0])
    return head, directories


def _parts(head: Head) -> list[Mapping[str, Any]]:
    """Encoder and mpp of each scale, or those and the colour of each view."""
    assert head.encoder is not None and head.scale is not None
    if views_of(head):
        return list(views_of(head))
    if head.scales is None:
        return [{"encoder": head.encoder, "mpp": head.scale}]
    return [{"encoder": head.encoder[str(mpp)], "mpp": mpp} for mpp in head.scales]


def _check(
    directory: EmbeddingDirectory, wanted: Any, mpp: float, colour: str | None
) -> None:
    given = directory.encoder
    if given != wanted:
        raise InputError(
            f"{directory.path}: made by encoder {given}, the head was trained on "
            f"{wanted}: embed the new slides with that one"
        )
    if mpp not in directory.scales:
        raise InputError(
            f"{directory.path}: has scales {directory.scales}, the head was "
            f"trained at {mpp:g} um/px: tile and embed the new slides there"
        )
    if colour and colour not in directory.colours:
        raise InputError(
            f"{directory.path}: has colours {directory.colours}, the head was "
            f"trained on {colour}: embed the new slides with it"
        )


def _check_side(directory: EmbeddingDirectory, trained: int | None) -> None:
    """Refuse tiles that show more or less of a slide; an encoder may resize any."""
    given = directory.tile_px
    if trained and given and given != trained:
        raise InputError(
            f"{directory.path}: of tiles of {given} px, the head was trained on tiles "
            f"of {trained} px: tile the new slides with tile_px={trained}"
        )


def _check_tiles(tiles: TileDirectory, embedded: EmbeddingDirectory) -> None:
    if not {*tiles.slides} & {*embedded.slide_ids}:
        raise InputError(
            f"tiles: no slide of {embedded.path} is in {tiles.path}: give the tiles "
            "directory that was embedded, or tiles=null"
        )
    embedded.check_slide_files(tiles.path, tiles.fingerprints)
