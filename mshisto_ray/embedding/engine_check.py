"""Engines and precisions tried on tiles of the cohort, against the encoder's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.backbone.engine import (
    Engine,
    Pair,
    candidates,
    on_engine,
    own_engine,
)
from mshisto_ray.components import Part
from mshisto_ray.embedding.colour import Look
from mshisto_ray.embedding.probe import read_sample
from mshisto_ray.embedding.worker import ENCODERS, GRAPH, STAINS, EmbedWork
from mshisto_ray.store.tiles import TileDirectory

_SLIDES, _TILES = 8, 128
_READ_LIMIT_S = 300.0
# Of fewer tiles the nearest neighbours say too little.
_FEWEST = 32
# What a pair has to reach against float32 of the encoder's own engine.
LEAST_COSINE, LEAST_NEIGHBOURS = 0.9999, 0.99
# Neighbours whose similarity differs by less are equally near.
_TIE = 1e-6
_NONE = np.zeros((0, 1, 1, 3), np.uint8)


@dataclass(frozen=True)
class Trial:
    """A pair on the sample: ms a tile and, against the reference, what it changed.

    ``cosine``: the worst of a tile's two embeddings; ``difference``: the largest of a
    value; ``neighbours``: share of tiles whose nearest neighbour in the sample stays
    the same; ``error``: why it did not run; ``configured``: the config names this pair.
    """

    engine: str
    precision: str
    ms: float = 0.0
    cosine: float = 1.0
    difference: float = 0.0
    neighbours: float = 1.0
    error: str = ""
    configured: bool = False

    @property
    def passes(self) -> bool:
        """Whether its embeddings may replace those of the reference."""
        return (
            not self.error
            and self.cosine >= LEAST_COSINE
            and self.neighbours >= LEAST_NEIGHBOURS
        )

    def __str__(self) -> str:
        if self.error:
            return f"{self.engine} {self.precision}: {self.error}"
        return (
            f"{self.engine} {self.precision} {self.ms:.1f} ms a tile (worst cosine "
            f"{self.cosine:.6f}, neighbours {self.neighbours:.3f})"
        )


def make_trials(
    work: EmbedWork, device: str, threads: int
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that tries the pairs of one encoder; runs where workers run.

    It takes ``{out, engine, precision, configured}``: directory of the encoder, what
    the config names or ``auto``, the pair to take if no other does; and returns
    ``{out, tiles, trials}``, the reference first, no trials of too few tiles.
    """
    torch.set_num_threads(threads)
    tiles = TileDirectory(work.tiles)
    num = -(-_TILES // min(_SLIDES, len(tiles.slides)))
    read, _ = read_sample(tiles, _SLIDES, num, _READ_LIMIT_S)
    sample = np.concatenate([one.pixels for one in read] or [_NONE])
    look = Look(work.colours, components.build(STAINS, work.stain))

    def try_pairs(unit: dict[str, Any]) -> dict[str, Any]:
        row = {"out": unit["out"], "tiles": len(sample), "trials": []}
        if len(sample) < _FEWEST:
            return row
        trials = Trials(work.encoders[Path(unit["out"])], next(look(sample)), device)
        found = trials.run(Path(unit["out"]) / GRAPH, unit)
        return row | {"trials": [asdict(trial) for trial in found]}

    return try_pairs


class Trials:
    """Pairs of one encoder on tiles uint8 [N, H, W, 3].

    ``wanted``: its embeddings in float32 by its own engine, [N, D].
    """

    def __init__(self, part: Part, tiles: np.ndarray, device: str):
        self._part, self._tiles, self._device = part, tiles, device
        self._encoder = components.build(ENCODERS, part, device, "float32")
        self._engine: Engine | None = own_engine(self._encoder)
        self.wanted, ms = _timed(self._encoder, tiles, device)
        self._reference = Trial(str(self._engine), "float32", ms)

    def run(self, graph: Path, unit: Mapping[str, Any]) -> list[Trial]:
        """The reference, then each pair that the config leaves open or names."""
        configured = Pair(**unit["configured"])
        pairs = [
            pair
            for pair in candidates(self._encoder, self._device)
            if unit["engine"] in ("auto", pair.engine)
            and unit["precision"] in ("auto", pair.precision)
        ]
        named = replace(configured, engine=configured.engine or self._engine)
        reference = replace(
            self._reference, configured=named == Pair(self._engine, "float32")
        )
        if not reference.configured and named not in pairs:
            pairs.append(named)
        return [
            reference,
            *(
                replace(self._try(pair, graph), configured=pair == named)
                for pair in pairs
            ),
        ]

    def moved(self, pair: Pair, graph: Path) -> Any:
        """The encoder on the engine and in the precision of a pair, by ``on_engine``.

        Args:
            pair: of this machine.
            graph: folder of the graph that is made of a network.
        """
        encoder, device = self._encoder, self._device
        if pair.engine == self._engine:
            encoder = components.build(ENCODERS, self._part, device, pair.precision)
        return on_engine(encoder, pair, device, graph, self._tiles.shape[1])

    def _try(self, pair: Pair, graph: Path) -> Trial:
        name = str(pair.engine)
        try:
            given, ms = _timed(self.moved(pair, graph), self._tiles, self._device)
        except Exception as error:  # torch's exporter and the engines raise anything
            first = (str(error).splitlines() or [type(error).__name__])[0][:200]
            return Trial(name, pair.precision, error=first)
        if not np.isfinite(given).all():
            return Trial(name, pair.precision, ms, error="not finite")
        return Trial(name, pair.precision, ms, *compare(self.wanted, given))


def _timed(encoder: Any, tiles: np.ndarray, device: str) -> tuple[np.ndarray, float]:
    """Embeddings [N, D] and ms a tile; of CPU time, as other processes may run."""
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    encoder(tiles[:8])
    started = clock()
    values = encoder(tiles)
    return values, 1e3 * (clock() - started) / len(tiles)


def compare(wanted: np.ndarray, given: np.ndarray) -> tuple[float, float, float]:
    """Worst cosine, largest difference, share of nearest neighbours that stay.

    Args:
        wanted: reference embeddings [N, D].
        given: of the same tiles.
    """
    one, other = _unit(wanted), _unit(given)
    similar = one @ one.T
    np.fill_diagonal(similar, -np.inf)
    theirs = other @ other.T
    np.fill_diagonal(theirs, -np.inf)
    chosen = np.take_along_axis(similar, theirs.argmax(1)[:, None], 1)[:, 0]
    kept = chosen >= similar.max(1) - _TIE
    cosine = float((one * other).sum(1).min())
    return cosine, float(np.abs(wanted - given).max()), float(kept.mean())


def _unit(values: np.ndarray) -> np.ndarray:
    wide = values.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(length > 0, length, 1)


def choose(trials: Sequence[Trial], engine: str, precision: str) -> Trial | None:
    """The fastest that passes of those with this engine and precision, or ``auto``."""
    fitting = [
        trial
        for trial in trials
        if engine in ("auto", trial.engine)
        and precision in ("auto", trial.precision)
        and trial.passes
    ]
    return min(fitting, key=lambda trial: trial.ms, default=None)
