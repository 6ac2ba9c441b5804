"""An index of tile positions: eight bytes a tile, looked up in O(log N).

A *layer* is one scale of one slide. Tiles are sorted by (slide, scale, row, col), so
that a row of a layer is a run of the array and a disc is a few runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.store.shards import read_shard
from mshisto_ray.store.tiles import TileDirectory, shard_path
from mshisto_ray.tiling.record import readings_of

# 20 bits each for row and column: a grid of a million by a million tiles.
_BITS = 20
_SIDE = 1 << _BITS
UNKNOWN = -1


@dataclass(frozen=True)
class TileIndex:
    """Tiles of a cohort, N in all, of S slides at L scales.

    Attributes:
        key: int64 [N], sorted: layer, row and column in one number.
        starts: int64 [S * L + 1], the first tile of each layer.
        scales: mpp, finest first.
        pitch_um: [S, L] side of a tile in micrometres, 1 where there is none.
        slide_ids: S names.
        patient: int [S].
        label: int [S] class of the slide, -1 where unknown.
    """

    key: np.ndarray
    starts: np.ndarray
    scales: tuple[float, ...]
    pitch_um: np.ndarray
    slide_ids: tuple[str, ...]
    patient: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    def layer(self, tiles: np.ndarray) -> np.ndarray:
        """Layer of tiles [M]: slide * L + scale."""
        return self.key[tiles] >> 2 * _BITS

    def slide(self, tiles: np.ndarray) -> np.ndarray:
        """Slide number of tiles [M]."""
        return self.layer(tiles) // len(self.scales)

    def scale(self, tiles: np.ndarray) -> np.ndarray:
        """Scale number of tiles [M], 0 the finest."""
        return self.layer(tiles) % len(self.scales)

    def row(self, tiles: np.ndarray) -> np.ndarray:
        """Row of tiles [M] in their layer's grid."""
        return (self.key[tiles] >> _BITS) & (_SIDE - 1)

    def col(self, tiles: np.ndarray) -> np.ndarray:
        """Column of tiles [M] in their layer's grid."""
        return self.key[tiles] & (_SIDE - 1)

    def pitch(self, tiles: np.ndarray) -> np.ndarray:
        """Side of tiles [M] in micrometres."""
        return self.pitch_um.reshape(-1)[self.layer(tiles)]

    def centre_um(self, tiles: np.ndarray) -> np.ndarray:
        """Centres (x, y) of tiles in their slides, micrometres [M, 2]."""
        place = np.stack([self.col(tiles), self.row(tiles)], axis=1) + 0.5
        return place * self.pitch(tiles)[:, None]

    def run(
        self, layer: np.ndarray, row: np.ndarray, first: np.ndarray, last: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The range of tiles in columns ``first`` to ``last`` of a row: start, stop.

        Places outside the grid hold no tile; arrays broadcast.
        """
        low, high = np.maximum(first, 0), np.minimum(last, _SIDE - 1)
        empty = (row < 0) | (row >= _SIDE) | (low > high)
        base = (layer << 2 * _BITS) + (np.clip(row, 0, _SIDE - 1) << _BITS)
        start = np.searchsorted(self.key, base + np.minimum(low, _SIDE - 1))
        stop = np.searchsorted(self.key, base + np.maximum(high, 0), side="right")
        return start, np.where(empty, start, stop)

    def layers_at(self, scale: int | None) -> np.ndarray:
        """Numbers of the layers at one scale (None: at all scales)."""
        layers = np.arange(len(self.starts) - 1)
        return layers if scale is None else layers[scale :: len(self.scales)]

    def sizes(self) -> np.ndarray:
        """The number of tiles of every layer, [S * L]."""
        return np.diff(self.starts)

    def scale_number(self, mpp: float) -> int:
        """The number of scale ``mpp``; InputError lists the scales if it is absent."""
        if mpp not in self.scales:
            have = ", ".join(f"{scale:g}" for scale in self.scales)
            raise InputError(f"pairs: no tiles at {mpp:g} um/px; there are {have}")
        return self.scales.index(mpp)

    def subset(self, tiles: np.ndarray) -> TileIndex:
        """An index of only the given tiles (sorted, unique); slides keep numbers."""
        key = self.key[tiles]
        return replace(self, key=key, starts=_starts(key, len(self.starts) - 1))


def build_index(
    layers: Mapping[tuple[int, int], tuple[np.ndarray, np.ndarray]],
    scales: Sequence[float],
    pitch_um: np.ndarray,
    slide_ids: Sequence[str],
    patient: np.ndarray,
    label: np.ndarray,
) -> TileIndex:
    """Build an index from rows and columns per (slide number, scale number)."""
    parts = []
    for (slide, scale), (row, col) in sorted(layers.items()):
        layer = np.int64(slide * len(scales) + scale) << 2 * _BITS
        parts.append(np.sort(layer + (row.astype(np.int64) << _BITS) + col))
    key = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    starts = _starts(key, len(slide_ids) * len(scales))
    return TileIndex(
        key, starts, tuple(scales), pitch_um, tuple(slide_ids), patient, label
    )


def read_index(
    tiles: TileDirectory,
    slide_ids: Sequence[str],
    label: Mapping[str, int],
    scales: Sequence[float] | None = None,
    patients: Mapping[str, str] | None = None,
) -> TileIndex:
    """Index the tiles of slides that have enough tissue of their own.

    Args:
        tiles: a tiles directory.
        slide_ids: slides wanted, all in the directory.
        label: class number by slide_id; slides without are of unknown class.
        scales: mpp wanted; the directory's if not given.
        patients: of a cohort, by slide_id; for other slides, those of the tiles.
    """
    held = tuple(float(scale) for scale in tiles.manifest.recipe["scales"])
    chosen = held if scales is None else tuple(sorted(scales))
    for mpp in chosen:
        if mpp not in held:
            have = ", ".join(f"{scale:g}" for scale in held)
            raise InputError(
                f"scales: {tiles.path} has no {mpp:g} um/px; it has {have}"
            )
    layers, pitch = {}, np.ones((len(slide_ids), len(chosen)))
    for number, slide_id in enumerate(slide_ids):
        record = tiles.slides[slide_id]
        for mpp, reading in readings_of(record).items():
            if mpp in chosen:
                pitch[number, chosen.index(mpp)] = reading.extent * record["mpp"]
        table = read_shard(
            shard_path(tiles.path, slide_id), columns=["mpp", "row", "col", "own"]
        )
        columns = {name: table[name].to_numpy() for name in table.column_names}
        for scale, mpp in enumerate(chosen):
            kept = columns["own"] & (columns["mpp"] == mpp)
            layers[number, scale] = columns["row"][kept], columns["col"][kept]
    tiled = {slide_id: tiles.slides[slide_id]["patient_id"] for slide_id in slide_ids}
    named = tiled | dict(patients or {})
    names = [named[slide_id] for slide_id in slide_ids]
    patient = np.unique(np.array(names), return_inverse=True)[1]
    classes = np.array([label.get(s, UNKNOWN) for s in slide_ids], np.int64)
    return build_index(layers, chosen, pitch, slide_ids, patient, classes)


def _starts(key: np.ndarray, num_layers: int) -> np.ndarray:
    edges = np.arange(num_layers + 1, dtype=np.int64) << 2 * _BITS
    return np.searchsorted(key, edges)
