"""Engine and precision of an embeddings directory: kept, named, or still open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mshisto_ray.backbone.engine import Engine, Pair, check_engine, own_engine
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.config import InputError
from mshisto_ray.store import embeddings
from mshisto_ray.store.manifest import MANIFEST, read_manifest
from mshisto_ray.store.tiles import TileDirectory

# With fewer tiles, making and checking a graph takes longer than it saves.
_LEAST_TILES = 2000


@dataclass(frozen=True)
class Wanted:
    """Engine and precision that a config names, or ``auto``."""

    engine: Literal["auto"] | Engine
    precision: Literal["auto"] | Precision
    compiled: bool


def recipe_keys(pair: Pair) -> dict[str, Any]:
    """Of a recipe; the encoder's own engine has no key: older directories have none."""
    return {"precision": pair.precision} | (
        {"engine": pair.engine} if pair.engine else {}
    )


def kept_pair(out: Path) -> Pair | None:
    """The pair of a directory that a run began; None: there is none yet."""
    if not (out / MANIFEST).is_file():
        return None
    recipe = read_manifest(out, embeddings.STAGE).recipe
    return Pair(recipe.get("engine"), recipe.get("precision", "float32"))


def decide(
    wanted: Wanted, out: Path, encoder: object, tiles: TileDirectory
) -> tuple[Pair, bool]:
    """The pair of a directory, and whether it is open: decided on tiles, by ``settle``.

    Args:
        wanted: what the config names.
        out: the directory; one that a run began keeps its pair.
        encoder: as it is built for the CPU.
        tiles: of the cohort.

    Raises:
        InputError: the engine does not run the encoder, or is not installed.
    """
    own = own_engine(encoder)
    engine = None if wanted.engine in ("auto", own) else wanted.engine
    if engine:
        check_engine(encoder, engine)
    if engine and wanted.compiled:
        raise InputError(
            f"compile: torch compiles, not {engine}: leave out one of both"
        )
    precision = "float32" if wanted.precision == "auto" else wanted.precision
    kept = kept_pair(out)
    if kept is not None:
        return Pair(
            kept.engine if wanted.engine == "auto" else engine,
            kept.precision if wanted.precision == "auto" else precision,
        ), False
    pair = Pair(engine, precision)
    if own is None or wanted.compiled:
        return pair, False
    is_free = "auto" in (wanted.engine, wanted.precision)
    return pair, engine is not None or (is_free and _is_large(tiles))


def _is_large(tiles: TileDirectory) -> bool:
    records = tiles.slides.values()
    counts = (n for record in records for _, n in record["tiles_per_scale"])
    return sum(counts) >= _LEAST_TILES
