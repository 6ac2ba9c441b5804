"""One unit of embedding work: the shards of a chunk, written whatever fails."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mshisto_ray.embedding.chunk import ChunkResult, embed_chunk, empty_tables
from mshisto_ray.embedding.product import Product
from mshisto_ray.embedding.reading import (
    Isolated,
    ReaderDiedError,
    Reading,
    SlideSource,
)
from mshisto_ray.slides import SlideError, Watchdog
from mshisto_ray.store import embeddings
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.fingerprint import slide_fingerprint
from mshisto_ray.store.guard import Guard, count_row
from mshisto_ray.store.row_counts import count_rows
from mshisto_ray.store.shards import read_metadata, write_shard
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.record import readings_of

# Two attempts in this process, then tile by tile in a child process; if a chunk still
# ends its process, reading is not the cause.
_ISOLATED_ATTEMPT, _LAST_ATTEMPT = 3, 6
_RECORD_EVERY_S = 5.0


@dataclass(frozen=True)
class Chunk:
    """A chunk of a slide."""

    slide_id: str
    chunk: int


def unit_key(record: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that a shard must match to be kept: file, resolution, annotation."""
    key = {key: record[key] for key in ("fingerprint", "resolution")}
    # Detected tissue follows from the file; annotated tissue may change.
    drawn = record.get("tissue_annotation")
    return key | {"tissue_annotation": drawn} if drawn else key


def _now_and_then(record: Callable[[int], None]) -> Callable[[int], None]:
    """``record``, called at most every few seconds, and not within the first ones."""
    last = time.monotonic()

    def on_tiles(tiles: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _RECORD_EVERY_S:
            last = time.monotonic()
            record(tiles)

    return on_tiles


class UnitEmbedder:
    """Embeds units one after the other.

    Args:
        tiles: tiles directory.
        products: what to make of the tiles, by the directory of the shards.
        reading: how the tiles are read.
        batch_size: tiles per call of a product.
    """

    def __init__(
        self,
        tiles: Path,
        products: Mapping[Path, Product],
        reading: Reading,
        batch_size: int,
    ):
        self._tiles = TileDirectory(tiles)
        self._products = products
        self._reading = reading
        self._batch_size = batch_size
        self._watchdog = Watchdog()

    def __call__(self, unit: Chunk) -> dict[str, Any]:
        """Make the missing shards of a unit; return a small row of counts.

        ``tiles`` is the least of all directories, ``failures`` their sum.
        """
        started = time.perf_counter()
        record = self._tiles.slides[unit.slide_id]
        known = {out: self._kept_shard(out, unit, record) for out in self._products}
        missing = [out for out, metadata in known.items() if metadata is None]
        if missing:
            known |= self._embed(unit, record, missing)
        shards = [metadata for metadata in known.values() if metadata]
        tiles = min(sum(shard["rows"].values()) for shard in shards)
        failures = [Failure(**one) for shard in shards for one in shard["failures"]]
        return {
            **count_row(unit.slide_id, tiles, failures),
            "chunk": unit.chunk,
            "seconds": time.perf_counter() - started,
        }

    def _kept_shard(
        self, out: Path, unit: Chunk, record: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        path = embeddings.shard_path(out, unit.slide_id, unit.chunk)
        metadata = read_metadata(path)
        is_kept = metadata is not None and metadata["key"] == unit_key(record)
        return metadata if is_kept else None

    def _embed(
        self, unit: Chunk, record: dict[str, Any], outs: Sequence[Path]
    ) -> dict[Path, dict[str, Any]]:
        """Metadata of the shards written, by directory."""
        attempts = [Attempts(out, f"{unit.slide_id}.{unit.chunk}") for out in outs]
        self._watchdog.before_end = attempts[0].record_hang
        while True:
            try:
                made = self._make(unit, record, outs, attempts)
                break
            except ReaderDiedError:
                continue  # counted by the markers, as if this process had ended
        written = {}
        for out, one in zip(outs, made, strict=True):
            written[out] = {
                "key": unit_key(record),
                **count_rows(one.tables),
                "failures": [asdict(failure) for failure in one.failures],
            }
            path = embeddings.shard_path(out, unit.slide_id, unit.chunk)
            with self._watchdog.watching():
                write_shard(path, one.tables, written[out])
        for one in attempts:
            one.end()
        return written

    def _make(
        self,
        unit: Chunk,
        record: dict[str, Any],
        outs: Sequence[Path],
        attempts: Sequence[Attempts],
    ) -> list[ChunkResult]:
        attempt = max(one.begin() for one in attempts)
        products = [self._products[out] for out in outs]

        def work() -> list[ChunkResult]:
            attempts[0].check_hangs()
            if attempt >= _LAST_ATTEMPT:
                raise SlideError(
                    "Crash",
                    f"the process ended {attempt - 1} times at this chunk, also while "
                    "reading tile by tile: see the worker's log (out of memory?)",
                )
            source = self._source(record)
            isolated = attempt >= _ISOLATED_ATTEMPT
            reading = Isolated() if isolated else self._reading
            with self._watchdog.watching():
                tiles = self._tiles.read_chunk(unit.slide_id, unit.chunk)
            return embed_chunk(
                tiles,
                source.readings,
                functools.partial(reading, source),
                products,
                self._batch_size,
                _now_and_then(attempts[0].record),
            )

        made = Guard("embed", unit.slide_id, unit.chunk).make(work)
        if isinstance(made, Failure):
            return [ChunkResult(empty_tables(product), [made]) for product in products]
        return made

    def _source(self, record: dict[str, Any]) -> SlideSource:
        path = Path(record["path"])
        fingerprint = self._watchdog.watched(slide_fingerprint)(path)
        if fingerprint != record["fingerprint"]:
            raise SlideError(
                "SlideChanged",
                f"{path} is not the file that was tiled: run mshisto tile again",
            )
        tile_px = self._tiles.manifest.recipe["tile_px"]
        return SlideSource(path, record["reader"], readings_of(record), tile_px)
