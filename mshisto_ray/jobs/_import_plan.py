"""Config of the import, and what there is to import: files, recipe, pending slides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.exchange.h5 import H5Error, width_of
from mshisto_ray.runtime import UnitsRuntime
from mshisto_ray.slides import in_threads
from mshisto_ray.store.cohort import Cohort, CohortSlide, slide_to_json
from mshisto_ray.store.columns import ColumnsConfig
from mshisto_ray.store.embeddings import shard_path
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.fingerprint import fingerprints
from mshisto_ray.store.shards import read_metadata


class ImportConfig(Config):
    """Import tile features that TRIDENT, CLAM or STAMP extracted as embeddings."""

    features: InputPath = option(
        text="folder of NAME.h5; NAME: a slide_id, or a slide file without suffix"
    )
    coordinates: InputPath | None = option(
        None, "folder of CLAM's patches, which hold the size of its tiles"
    )
    cohort: InputPath = option(text="CSV or Parquet, one row per slide; needs `path`")
    columns: ColumnsConfig = ColumnsConfig()
    out: OutputPath = option(text="embeddings directory; an unfinished one is resumed")
    encoder: str = option(text="name of the encoder of the features", min_length=1)
    mpp: float = option(text="scale of the tiles (20x is 0.5)", unit="um/px", gt=0)
    tile_px: int = option(256, "side of a tile as embedded", unit="px", ge=1)
    extent: float | None = option(
        None, "side of a tile if no file gives it", unit="level-0 px", gt=0
    )
    dtype: Literal["float16", "float32"] = option(
        "float32", "of the stored vectors; float32 keeps both kinds exactly"
    )
    check_slides: bool = option(
        True, "compare places and resolution with the slides; false: without slides"
    )
    mpp_tolerance: float = option(
        0.1,
        "by which a tile's resolution may differ from mpp",
        unit="share",
        ge=0,
        le=1,
    )
    runtime: UnitsRuntime = UnitsRuntime()


def find_files(config: ImportConfig, cohort: Cohort) -> dict[str, Path]:
    """Files of features by slide_id; InputError if there are none at all."""
    if not config.features.is_dir():
        raise InputError(f"features: no such folder: {config.features}")
    if config.coordinates and not config.coordinates.is_dir():
        raise InputError(f"coordinates: no such folder: {config.coordinates}")
    by_name = {path.stem: path for path in sorted(config.features.glob("*.h5"))}
    files = {}
    stems = Counter(row.path.stem for row in cohort.rows)
    for row in cohort.rows:
        names = [file_name(row.slide_id), row.slide_id]
        # Of two slides of one file name, in two folders, it may be either's.
        names += [row.path.stem] if stems[row.path.stem] == 1 else []
        path = next((by_name[name] for name in names if name in by_name), None)
        if path:
            files[row.slide_id] = path
    if not files:
        raise InputError(
            f"features: none of the {len(by_name)} .h5 files in {config.features} has "
            f"the name of a slide of {config.cohort}: name them SLIDE_ID.h5"
        )
    return files


def make_recipe(config: ImportConfig, files: Mapping[str, Path]) -> dict[str, Any]:
    """The settings that change rows; the first readable file gives the width."""
    for path in files.values():
        try:
            # Not in this thread, which a storage that does not answer would hold.
            (dim,) = in_threads(width_of, [path]) if path.is_file() else (None,)
        except H5Error:
            continue
        if isinstance(dim, int):
            break
    else:
        raise InputError(
            f"features: none of the {len(files)} files in {config.features} is HDF5 "
            "with `features`, as TRIDENT and CLAM write them, or STAMP's `feats`"
        )
    keys = ("extent", "mpp_tolerance", "check_slides")
    return {
        "tiles": {"scales": [config.mpp], "tile_px": config.tile_px},
        "encoder": {"name": config.encoder, "digest": _encoder_digest(config, dim)},
        "dim": dim,
        "dtype": config.dtype,
        "colour": ["rgb"],
        "imported": {key: getattr(config, key) for key in keys},
    }


def _encoder_digest(config: ImportConfig, dim: int) -> str:
    """Identity of the encoder as far as it is known: its name and width.

    Not of the features: a head has to apply to those of other slides too.
    """
    text = f"imported {config.encoder} {dim}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def input_keys(
    config: ImportConfig, cohort: Cohort, files: Mapping[str, Path]
) -> dict[str, Any]:
    """The inputs that a slide's shard must match to be kept, by slide_id."""

    def paths(row: CohortSlide) -> list[Path | None]:
        path = files.get(row.slide_id)
        slide = row.path if config.check_slides else None
        return [path, _coordinates(config, path), slide]

    used = {row.slide_id: paths(row) for row in cohort.rows}
    known = fingerprints([p for row in used.values() for p in row if p])
    return {
        row.slide_id: {
            "files": [known[p] if p else None for p in used[row.slide_id]],
            "mpp": row.mpp,
        }
        for row in cohort.rows
    }


def _coordinates(config: ImportConfig, features: Path | None) -> Path | None:
    if features is None or config.coordinates is None:
        return None
    return config.coordinates / features.name


def is_pending(config: ImportConfig, row: CohortSlide, keys: Mapping[str, Any]) -> bool:
    """Whether a slide has no shard, one of other input, or one to make again."""
    metadata = read_metadata(shard_path(config.out, row.slide_id, 0))
    if metadata is None or metadata["key"] != keys[row.slide_id]:
        return True
    return config.runtime.retries(metadata["failures"])


def to_unit(
    config: ImportConfig, row: CohortSlide, features: Path | None, key: Any
) -> dict[str, Any]:
    """The unit of one slide: row of the cohort, key and files, as JSON values."""
    used = {"features": features, "coordinates": _coordinates(config, features)}
    named = {name: str(path) if path else None for name, path in used.items()}
    slide = {"slide_id": row.slide_id, "row": slide_to_json(row)}
    return slide | {"key": key} | named
