"""Reading a finished embeddings directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mshisto_ray.config import InputError
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.manifest import Manifest, read_manifest
from mshisto_ray.store.same_slides import explain_other_files
from mshisto_ray.store.shards import read_shard, tensor_values

STAGE = "embeddings"
COLOUR = "colour"


def shard_path(directory: Path, slide_id: str, chunk: int) -> Path:
    """Path of the shard with the embeddings of a chunk."""
    return directory / "shards" / file_name(slide_id) / f"chunk-{chunk:05d}.parquet"


@dataclass(frozen=True)
class TileEmbeddings:
    """Tiles of one slide at one scale, sorted by (row, col).

    ``mpp``, ``row``, ``col``, ``x``, ``y``, ``extent``, ``tissue``, ``own``: [N];
    ``values``: [N, D].
    """

    slide_id: str
    mpp: np.ndarray
    row: np.ndarray
    col: np.ndarray
    x: np.ndarray
    y: np.ndarray
    extent: np.ndarray
    tissue: np.ndarray
    own: np.ndarray
    values: np.ndarray


class EmbeddingDirectory:
    """A finished embeddings directory, as ``mshisto embed`` writes it.

    Opened in a ``colour`` that is not its first, it is another one: reads give that
    column, and digest and encoder have its name.

    Attributes:
        slide_ids: slides with every chunk embedded, sorted.
        patient_ids: patient of each slide.
        fingerprints: of each slide's file.
        digest: identity of the recipe and of the slides in it.

    Raises:
        InputError: not finished, or without this colour.
    """

    def __init__(self, path: Path, colour: str | None = None):
        self.path = path
        self.manifest: Manifest = read_manifest(path, STAGE)
        table = path / "slides.parquet"
        if not table.is_file():
            raise InputError(
                f"{path}: embedding is not finished; run mshisto embed again to resume "
                "it"
            )
        rows = sorted(pq.read_table(table).to_pylist(), key=lambda row: row["slide_id"])
        complete = [row for row in rows if row["complete"]]
        self.incomplete = [row["slide_id"] for row in rows if not row["complete"]]
        self.slide_ids: list[str] = [row["slide_id"] for row in complete]
        self.patient_ids = {row["slide_id"]: row["patient_id"] for row in complete}
        self.fingerprints = {row["slide_id"]: row["fingerprint"] for row in complete}
        self._made_from = {row["slide_id"]: row["made_from"] for row in complete}
        self._num_chunks = {row["slide_id"]: row["num_chunks"] for row in complete}
        self._rows = {row["slide_id"]: dict(row["rows_per_scale"]) for row in complete}
        self._own = {row["slide_id"]: row.get("own_per_scale") for row in complete}
        self.colour = self._checked(colour)
        text = f"{self.manifest.digest} {[self.state(s) for s in self.slide_ids]}"
        if self.colour != self.colours[0]:
            text += f" {self.colour}"
        self.digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _checked(self, colour: str | None) -> str:
        if colour not in (None, *self.colours):
            have = ", ".join(self.colours)
            raise InputError(f"colour: {colour!r} is not in {self.path}; have {have}")
        return colour or self.colours[0]

    def in_colour(self, colour: str | None) -> EmbeddingDirectory:
        """The same directory in a colour mode, None for its first."""
        wanted = self._checked(colour)
        return self if wanted == self.colour else EmbeddingDirectory(self.path, wanted)

    @property
    def encoder(self) -> dict[str, Any]:
        """Name and digest of the encoder, with the colour if it is not the first."""
        known = self.manifest.recipe["encoder"]
        return (
            known if self.colour == self.colours[0] else {**known, COLOUR: self.colour}
        )

    @property
    def scales(self) -> list[float]:
        """Configured scales, finest first (micrometres per pixel)."""
        return sorted(self.manifest.recipe["tiles"]["scales"])

    def check_slide_files(self, tiles: Path, fingerprints: Mapping[str, str]) -> None:
        """Refuse a tiles directory, and its fingerprints, of other slide files.

        Raises:
            InputError: names the slides.
        """
        apart = explain_other_files(fingerprints, self.fingerprints)
        if apart and self.knows_slides:
            raise InputError(
                f"tiles: {tiles} is of another file of {apart} than {self.path}: give "
                "the tiles directory that was embedded"
            )

    @property
    def tile_px(self) -> int | None:
        """Side of a tile as it was embedded; None where an import does not know it."""
        return self.manifest.recipe["tiles"].get("tile_px")

    def choose_scale(self, wanted: float | None) -> float:
        """A scale of a job's config; None is the finest.

        Raises:
            InputError: no embeddings at this scale.
        """
        if wanted is None:
            return self.scales[0]
        if wanted not in self.scales:
            have = ", ".join(map(str, self.scales))
            raise InputError(f"scale: {wanted} is not in {self.path}; have {have}")
        return wanted

    @property
    def has_random_weights(self) -> bool:
        """Whether its encoder is a network that was never trained."""
        encoder = self.manifest.recorded.get("encoder")
        return isinstance(encoder, dict) and encoder.get("weights") == "random"

    @property
    def is_imported(self) -> bool:
        """Whether its features were extracted by other software."""
        return "imported" in self.manifest.recipe

    @property
    def knows_slides(self) -> bool:
        """Whether ``fingerprints`` are of slides: not of features without them."""
        return self.manifest.recipe.get("imported", {}).get("check_slides", True)

    @property
    def dim(self) -> int:
        """Width D of an embedding."""
        return self.manifest.recipe["dim"]

    def state(self, slide_id: str) -> str:
        """A text that changes with the slide's rows; empty if it is incomplete."""
        if slide_id not in self.patient_ids:
            return ""
        rows = sorted(self._rows[slide_id].items())
        return f"{slide_id} {self._made_from[slide_id]} {rows}"

    def num_rows(self, slide_id: str, mpp: float) -> int:
        """Embedded tiles of a slide at a scale, ancestors included."""
        return self._rows[slide_id].get(mpp, 0)

    def num_own(self, slide_id: str, mpp: float) -> int | None:
        """Own tiles among them; None where embedding did not count them yet."""
        counted = self._own[slide_id]
        return None if counted is None else dict(counted).get(mpp, 0)

    def shards(self, slide_id: str) -> list[Path]:
        """Files of a complete slide's chunks, in order."""
        chunks = range(self._num_chunks[slide_id])
        return [shard_path(self.path, slide_id, chunk) for chunk in chunks]

    @cached_property
    def written(self) -> str:
        """Digest of the size and time of every shard: it changes when one is written.

        Raises:
            InputError: a shard is missing.
        """
        digest = hashlib.blake2b(digest_size=8)
        for slide_id in self.slide_ids:
            for path in self.shards(slide_id):
                try:
                    status = path.stat()
                except FileNotFoundError:
                    raise InputError(
                        f"{path}: missing; run mshisto embed again to make it"
                    ) from None
                state = slide_id, path.name, status.st_size, status.st_mtime_ns
                digest.update(repr(state).encode())
        return digest.hexdigest()

    @property
    def colours(self) -> list[str]:
        """Colour modes; the shards have a column of vectors for each."""
        return self.manifest.recipe.get("colour", ["rgb"])

    def read(
        self,
        slide_id: str,
        mpp: float,
        own_only: bool = True,
        colour: str | None = None,
    ) -> TileEmbeddings:
        """Tiles of a slide at a scale, sorted by (row, col); N = 0 if it has none.

        ``colour``: one of the colour modes, None for that it was opened in.
        """
        colour = self._checked(colour or self.colour)
        if slide_id not in self._num_chunks:
            raise InputError(f"{self.path}: no complete slide {slide_id!r}")
        if mpp not in self.scales:
            raise InputError(f"{self.path}: no scale {mpp}; have {self.scales}")
        tables = [read_shard(path, mpp=mpp) for path in self.shards(slide_id)]
        table = pa.concat_tables(tables)
        row, col = table["row"].to_numpy(), table["col"].to_numpy()
        order = np.lexsort((col, row))
        if own_only:
            order = order[table["own"].to_numpy()[order]]
        names = ("mpp", "row", "col", "x", "y", "extent", "tissue", "own")
        arrays = {name: table[name].to_numpy()[order] for name in names}
        values = tensor_values(table[colour])[order]
        return TileEmbeddings(slide_id, **arrays, values=values)
