"""One interface to the embeddings of many slides: in memory, mapped or in Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.shards import read_shard


class Features(Protocol):
    """Embeddings of S slides at one scale: own tiles or all, sorted by (row, col)."""

    @property
    def slide_ids(self) -> Sequence[str]:
        """Ids of the S slides."""
        ...

    @property
    def dim(self) -> int:
        """Width D of an embedding."""
        ...

    @property
    def counts(self) -> np.ndarray:
        """Tiles of each slide, int64 [S]."""
        ...

    def read(self, index: int) -> np.ndarray:
        """Embeddings [N, D] of a slide, given its index in ``slide_ids``."""
        ...


@dataclass(frozen=True)
class ArrayFeatures:
    """Features of slides one after another in one array (in memory or mapped).

    ``values``: [N, D]; ``offsets``: int64 [S + 1]; ``lock``: held until deletion.
    """

    slide_ids: Sequence[str]
    values: np.ndarray
    offsets: np.ndarray
    lock: object = None

    @property
    def dim(self) -> int:
        """Width D of an embedding."""
        return self.values.shape[1]

    @property
    def counts(self) -> np.ndarray:
        """Tiles of each slide, int64 [S]."""
        return np.diff(self.offsets)

    def read(self, index: int) -> np.ndarray:
        """Embeddings [N, D] of a slide; a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class ParquetFeatures:
    """Features read from the shards at every call."""

    directory: EmbeddingDirectory
    mpp: float
    counts: np.ndarray
    own_only: bool = True
    colour: str | None = None

    @property
    def slide_ids(self) -> Sequence[str]:
        """Ids of the slides, sorted."""
        return self.directory.slide_ids

    @property
    def dim(self) -> int:
        """Width D of an embedding."""
        return self.directory.dim

    def read(self, index: int) -> np.ndarray:
        """Embeddings [N, D] of a slide."""
        slide_id = self.slide_ids[index]
        found = self.directory.read(slide_id, self.mpp, self.own_only, self.colour)
        return found.values


@dataclass(frozen=True)
class SelectedFeatures:
    """A selection of slides and tiles from other features.

    ``rows``: {index of a slide: its selected rows}; other slides have none selected.
    """

    whole: Features
    rows: Mapping[int, np.ndarray]

    @property
    def slide_ids(self) -> Sequence[str]:
        """Ids of all slides of ``whole``."""
        return self.whole.slide_ids

    @property
    def dim(self) -> int:
        """Width D of an embedding."""
        return self.whole.dim

    @property
    def counts(self) -> np.ndarray:
        """Selected tiles of each slide, int64 [S]."""
        found = np.zeros(len(self.whole.slide_ids), np.int64)
        for place, rows in self.rows.items():
            found[place] = len(rows)
        return found

    def read(self, index: int) -> np.ndarray:
        """Embeddings [N, D] of a slide's selected tiles."""
        return self.whole.read(index)[self.rows.get(index, np.zeros(0, np.int64))]


def count_tiles(
    directory: EmbeddingDirectory, mpp: float, own_only: bool = True
) -> np.ndarray:
    """Tiles of each complete slide at a scale, int64 [S].

    Where embedding did not count own tiles, they are counted in the shards, once in a
    process for the same embeddings: a sweep's check, its driver and its trials all want
    to know.
    """
    if not own_only:
        rows = [directory.num_rows(slide_id, mpp) for slide_id in directory.slide_ids]
        return np.array(rows, dtype=np.int64)
    key = directory.path.absolute(), directory.digest, mpp
    if key not in _own_tiles:
        _own_tiles[key] = [_count_own(directory, s, mpp) for s in directory.slide_ids]
    return np.array(_own_tiles[key], dtype=np.int64)


_own_tiles: dict[tuple[Path, str, float], list[int]] = {}


def _count_own(directory: EmbeddingDirectory, slide_id: str, mpp: float) -> int:
    known = directory.num_own(slide_id, mpp)
    if known is not None:
        return known
    tables = [read_shard(path, ["own"], mpp) for path in directory.shards(slide_id)]
    return sum(int(table["own"].to_numpy().sum()) for table in tables)
