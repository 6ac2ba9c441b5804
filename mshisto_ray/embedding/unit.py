"""One unit of embedding work: a chunk in, its shard out, whatever happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.embedding.chunk import ReadTile, embed_chunk, empty_tables
from mshisto_ray.embedding.colour import Colour, Look
from mshisto_ray.embedding.isolation import IsolatedReader
from mshisto_ray.encoders._encoder import Encoder
from mshisto_ray.slides._open import Watchdog
from mshisto_ray.slides._slide import Slide, SlideError
from mshisto_ray.store import embeddings
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.fingerprint import slide_fingerprint
from mshisto_ray.store.shards import read_metadata, write_shard
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.cell import TileReader
from mshisto_ray.tiling.slide import readings_of

STAINS = "mshisto_ray.embedding.stains"
AS_SCANNED = Part(name="none")

# Two attempts in the open, then tile by tile in a child process; a chunk that then
# still ends its process is ended by something else than reading.
_ISOLATED_ATTEMPT, _LAST_ATTEMPT = 3, 6


@dataclass(frozen=True)
class Unit:
    """A chunk of a slide."""

    slide_id: str
    chunk: int


@dataclass(frozen=True)
class EmbedWork:
    """What every unit shares; small and picklable.

    ``batch_size`` tiles a forward pass; ``dtype`` float16 or float32 of the shards;
    ``stain`` a part of the stains; ``colours`` a column of the shards each.
    """

    tiles: Path
    out: Path
    batch_size: int
    dtype: str
    stain: Part = AS_SCANNED
    colours: tuple[Colour, ...] = ("rgb",)


def unit_key(record: dict[str, Any]) -> dict[str, Any]:
    """What a shard has to have been made from to stand: file, resolution, outlines."""
    key = {key: record[key] for key in ("fingerprint", "resolution")}
    # Tissue that is found follows from the file; tissue that was drawn may change.
    drawn = record.get("tissue_annotation")
    return key | {"tissue_annotation": drawn} if drawn else key


class UnitEmbedder:
    """Embeds units one after the other; keeps encoder and last slide open."""

    def __init__(self, work: EmbedWork, encoder: Encoder):
        self._work = work
        self._encoder = encoder
        self._tiles = TileDirectory(work.tiles)
        self._watchdog = Watchdog()
        self._open: tuple[Path, Slide] | None = None
        self._look = Look(work.colours, components.build(STAINS, work.stain))

    def __call__(self, unit: Unit) -> dict[str, Any]:
        """Embed a unit unless its shard stands; returns a small row of counts."""
        started = time.perf_counter()
        record = self._tiles.slides[unit.slide_id]
        path = embeddings.shard_path(self._work.out, unit.slide_id, unit.chunk)
        metadata = read_metadata(path)
        if metadata is None or metadata["key"] != unit_key(record):
            metadata = self._embed(unit, record, path)
        return {
            "slide_id": unit.slide_id,
            "chunk": unit.chunk,
            "tiles": sum(metadata["rows"].values()),
            "failures": len(metadata["failures"]),
            "seconds": time.perf_counter() - started,
        }

    def _embed(self, unit: Unit, record: dict[str, Any], path: Path) -> dict[str, Any]:
        attempts = Attempts(self._work.out, f"{unit.slide_id}.{unit.chunk}")
        attempt = attempts.begin()
        dtype = np.dtype(self._work.dtype)
        try:
            if attempt >= _LAST_ATTEMPT:
                raise SlideError(
                    "Crash",
                    f"the process ended {attempt - 1} times at this chunk, also while "
                    "reading tile by tile: look at the worker's log (memory?)",
                )
            slide_path = self._checked_path(record)
            is_isolated = attempt >= _ISOLATED_ATTEMPT
            with self._reader(slide_path, record, is_isolated) as read:
                tables, failures = embed_chunk(
                    self._tiles.read_chunk(unit.slide_id, unit.chunk),
                    readings_of(record),
                    read,
                    self._encoder,
                    self._work.batch_size,
                    dtype,
                    self._look,
                )
        except SlideError as error:
            kind = "crash" if error.name == "Crash" else "input"
            failures = [_whole(unit, kind, error.name, str(error))]
            tables = empty_tables(self._encoder.dim, dtype, self._work.colours)
        except OSError as error:
            message = f"{error}; tried again by the next run"
            failures = [_whole(unit, "transient", type(error).__name__, message)]
            tables = empty_tables(self._encoder.dim, dtype, self._work.colours)
        metadata = {
            "key": unit_key(record),
            "rows": {t["mpp"][0].as_py(): t.num_rows for t in tables if t.num_rows},
            "failures": [asdict(failure) for failure in failures],
        }
        write_shard(path, tables, metadata)
        attempts.end()
        return metadata

    def _checked_path(self, record: dict[str, Any]) -> Path:
        path = Path(record["path"])
        if slide_fingerprint(path) != record["fingerprint"]:
            raise SlideError(
                "SlideChanged",
                f"{path} is not the file that was tiled: run jobs/tile.py again",
            )
        return path

    @contextmanager
    def _reader(
        self, path: Path, record: dict[str, Any], is_isolated: bool
    ) -> Iterator[ReadTile]:
        tile_px = self._tiles.manifest.recipe["tile_px"]
        if is_isolated:
            child = IsolatedReader(path, record["reader"], tile_px)
            try:
                yield child
            finally:
                child.close()
        else:
            slide = self._slide(path, record["reader"])
            yield TileReader(slide, readings_of(record), tile_px)

    def _slide(self, path: Path, reader: str) -> Slide:
        if self._open and self._open[0] == path:
            return self._open[1]
        if self._open:
            self._open[1].close()
            self._open = None
        slide = self._watchdog.open_slide(path, reader)
        self._open = (path, slide)
        return slide


def _whole(unit: Unit, kind, error: str, message: str) -> Failure:
    return Failure(unit.slide_id, "embed", kind, error, message, chunk=unit.chunk)
