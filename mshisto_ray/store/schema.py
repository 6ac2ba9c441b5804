"""Arrow schemas of the files between stages; units in field metadata.

``x, y`` are level-0 pixels of a tile's top-left corner; ``row, col`` its place in the
slide's grid of that scale, anchored at (0, 0); a tile is (slide_id, mpp, row, col).
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa


def _field(name: str, kind: pa.DataType, text: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, metadata={"description": text})


_TILE_IDENTITY = [
    _field("slide_id", pa.string(), "slide"),
    _field("mpp", pa.float64(), "scale as configured, micrometres per pixel"),
    _field("row", pa.int32(), "row in the slide's grid of this scale"),
    _field("col", pa.int32(), "column in the slide's grid of this scale"),
]
_TILE_PLACE = [
    _field("x", pa.int64(), "left edge, level-0 pixels"),
    _field("y", pa.int64(), "top edge, level-0 pixels"),
    _field("extent", pa.float64(), "side of the square covered, level-0 pixels"),
    _field("tissue", pa.float32(), "share of the tile that is tissue"),
    _field("own", pa.bool_(), "true: enough tissue itself; false: only an ancestor"),
]

TILES = pa.schema(
    [
        *_TILE_IDENTITY,
        *_TILE_PLACE,
        _field("chunk", pa.int32(), "unit of work within the slide"),
        _field("annotation", pa.string(), "class of the annotation", nullable=True),
        _field("annotated", pa.float32(), "share of the tile covered by that class"),
        _field(
            "focus",
            pa.float32(),
            "variance of the Laplacian of luma over its tissue; low: blurred",
            nullable=True,
        ),
    ]
)

SLIDES = pa.schema(
    [
        _field("slide_id", pa.string(), "slide"),
        _field("patient_id", pa.string(), "patient"),
        _field("path", pa.string(), "slide file"),
        _field("width", pa.int64(), "level-0 pixels"),
        _field("height", pa.int64(), "level-0 pixels"),
        _field(
            "bounds_x",
            pa.int64(),
            "left edge of the scanned area, level-0 pixels: GeoJSON counts from it; "
            "null: tiled before this was recorded",
            nullable=True,
        ),
        _field("bounds_y", pa.int64(), "its top edge", nullable=True),
        _field("mpp", pa.float64(), "level-0 micrometres per pixel, as used"),
        _field("mpp_source", pa.string(), "file or cohort"),
        _field(
            "mpp_of_file",
            pa.float64(),
            "what the file records; null: nothing, or tiled before this was recorded",
            nullable=True,
        ),
        _field("vendor", pa.string(), "as the reader names it"),
        _field("objective", pa.float64(), "nominal magnification", nullable=True),
        _field("reader", pa.string(), "part of the slides family"),
        _field("reader_reason", pa.string(), "why this reader and no other"),
        _field("fingerprint", pa.string(), "size and quick hash of the file"),
        _field("tissue_mm2", pa.float64(), "area of the tissue mask"),
        _field(
            "tissue_annotation",
            pa.string(),
            "quick hash of the annotation that is its tissue; null: found",
            nullable=True,
        ),
        _field("num_chunks", pa.int32(), "chunks of the slide"),
        _field(
            "tiles_per_scale",
            pa.map_(pa.float64(), pa.int64()),
            "planned tiles, by configured mpp",
        ),
        _field(
            "coverage",
            pa.map_(pa.float64(), pa.float64()),
            "share of the tissue mask inside own tiles, by configured mpp; null: tiled "
            "before this was recorded",
            nullable=True,
        ),
        _field(
            "resolution",
            pa.string(),
            "JSON per scale: level, factor, extent and true mpp",
        ),
    ]
)

PIXELS = pa.schema(
    [
        *_TILE_IDENTITY,
        *_TILE_PLACE,
        _field("jpeg", pa.binary(), "the tile's pixels as read, a JPEG stream"),
    ]
)

FAILURES = pa.schema(
    [
        _field("slide_id", pa.string(), "slide"),
        _field("chunk", pa.int32(), "null: the whole slide", nullable=True),
        _field("mpp", pa.float64(), "null: every scale", nullable=True),
        _field("row", pa.int32(), "null: not one tile", nullable=True),
        _field("col", pa.int32(), "null: not one tile", nullable=True),
        _field("stage", pa.string(), "tile, embed, import or predict"),
        _field("kind", pa.string(), "input, transient or crash"),
        _field("error", pa.string(), "short name of what went wrong"),
        _field("message", pa.string(), "what happened and what to do"),
    ]
)

EMBEDDED_SLIDES = pa.schema(
    [
        _field("slide_id", pa.string(), "slide"),
        _field("patient_id", pa.string(), "patient"),
        _field("fingerprint", pa.string(), "of the slide file"),
        _field("made_from", pa.string(), "hash of what its rows were made from"),
        _field("num_chunks", pa.int32(), "shards of the slide"),
        _field("complete", pa.bool_(), "every chunk has its shard"),
        _field(
            "rows_per_scale",
            pa.map_(pa.float64(), pa.int64()),
            "rows, by configured mpp",
        ),
        _field(
            "own_per_scale",
            pa.map_(pa.float64(), pa.int64()),
            "own rows, by configured mpp; null: some were embedded before they were "
            "counted",
            nullable=True,
        ),
    ]
)


def embeddings(
    dim: int, value: pa.DataType, colours: Sequence[str] = ("rgb",)
) -> pa.Schema:
    """Schema of an embedding shard: tile identity, place, a vector per colour mode."""
    vector = pa.fixed_shape_tensor(value, (dim,))
    vectors = [_field(c, vector, f"embedding of the tile in {c}") for c in colours]
    return pa.schema([*_TILE_IDENTITY, *_TILE_PLACE, *vectors])
