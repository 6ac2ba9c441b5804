"""Metrics of the encoder on held-out patients."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from pydantic import model_validator

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import InputError, option
from mshisto_ray.contrastive.monitor import (
    collapse,
    near_far_auc,
    pair_distances,
    recall_at,
    spread,
)
from mshisto_ray.contrastive.pair_batches import PAIRS
from mshisto_ray.contrastive.pairs import (
    PairBatch,
    draw_batch,
    finer_pairs,
    near_far_pairs,
)
from mshisto_ray.evaluation.descriptor_distance import effective_rank
from mshisto_ray.training.held_out import HeldOutConfig, forward_tiles
from mshisto_ray.training.reading import IndexedTileReader
from mshisto_ray.training.step import Stepper
from mshisto_ray.training.tile_index import TileIndex

_NEIGHBOURS = 10
# Batches tried beyond those wanted, in search of positives and negatives.
_TRIES = 20


class ValidationConfig(HeldOutConfig):
    """Held-out patients and what is measured on them."""

    near_um: float = option(
        300.0, "largest distance of near pairs, for the near-far AUC", "um", gt=0
    )
    far_um: float = option(
        1500.0, "smallest distance of far pairs, for the near-far AUC", "um", gt=0
    )
    pairs: int = option(400, "pairs drawn of each kind", ge=2)
    batches: int = option(
        16, "batches of batch_size images whose mean loss is val_loss", ge=1
    )

    @model_validator(mode="after")
    def _are_apart(self) -> Self:
        if self.far_um <= self.near_um:
            raise ValueError(
                f"far_um={self.far_um:g} must be above near_um={self.near_um:g}"
            )
        return self


class Validation:
    """A fixed sample of pairs of held-out patients, read once.

    Measures (all on embeddings but the loss): ``val_near_far_auc``, the mean over
    scales, ``val_recall_at_10`` of a tile's finer tile among those of other places,
    ``val_rank``, ``val_spread`` and ``val_loss``, the mean over batches (one alone
    differs from another by more than most epochs do). Metrics for which the held-out
    slides are too small or too few are left out, and so are pairs with a tile that
    cannot be read.
    """

    def __init__(
        self,
        index: TileIndex,
        reader: IndexedTileReader,
        tiles: np.ndarray,
        config: ValidationConfig,
        pairs: Part,
        batch_size: int,
    ):
        part = index.subset(tiles)
        self.notes: list[str] = []
        near_far = [self._draw_near_far(part, config, mpp) for mpp in part.scales]
        places = self._draw_places(part, config.pairs)
        batches = self._draw_batches(part, pairs, batch_size, config.batches)
        drawn = [pairs.reshape(-1) for pairs in (*near_far, *places)]
        drawn += [batch.tiles for batch in batches]
        self._near_far, self._places = [], []
        self._batches: list[PairBatch] = []
        if any(map(len, drawn)):
            used = np.unique(np.concatenate(drawn))
            held = reader(tiles[used])
            self._pixels = held.pixels[held.readable]
            self._at = np.searchsorted(used[held.readable], np.arange(len(part)))
            is_readable = np.zeros(len(part), bool)
            is_readable[used] = held.readable
            self._keep(near_far, places, batches, is_readable)
        if not (self._near_far or self._places or self._batches):
            raise InputError(
                "validation: held-out slides are too small, too few or too damaged for "
                f"any measure ({'; '.join(self.notes)}): raise validation.share, lower "
                "validation.near_um and far_um, or set validation.share to 0"
            )

    def _keep(
        self,
        near_far: Sequence[np.ndarray],
        places: Sequence[np.ndarray],
        batches: Sequence[PairBatch],
        is_readable: np.ndarray,
    ) -> None:
        """Keep the drawn pairs and batches without tiles that cannot be read."""
        # A near pair is kept only with the far one that follows it.
        fours = [pairs.reshape(-1, 4) for pairs in near_far]
        fours = [four[is_readable[four].all(axis=1)] for four in fours]
        self._near_far = [four.reshape(-1, 2) for four in fours if len(four)]
        read = [pairs[is_readable[pairs].all(axis=1)] for pairs in places]
        # With no more places than neighbours every target would be a hit.
        self._places = [pairs for pairs in read if len(pairs) > 2 * _NEIGHBOURS]
        lost = sum(int((~is_readable[batch.tiles]).sum()) for batch in batches)
        if lost or sum(map(len, read)) < sum(map(len, places)):
            self.notes.append("some held-out tiles cannot be read and are left out")
        for batch in batches:
            at = np.flatnonzero(is_readable[batch.tiles])
            positive, negative = (
                relation[np.ix_(at, at)]
                for relation in (batch.positive, batch.negative)
            )
            if positive.any() and negative.any():
                kept = batch.tiles[at], positive, negative, batch.missing
                self._batches.append(PairBatch(*kept))

    def __call__(self, stepper: Stepper, loss: torch.nn.Module) -> dict[str, float]:
        """Measure the model with its current weights."""
        embeddings, projections = forward_tiles(stepper, self._pixels)
        metrics: dict[str, float] = {
            "val_rank": effective_rank(embeddings),
            "val_spread": spread(embeddings),
        }
        apart = [self._apart(embeddings, pairs) for pairs in self._near_far]
        if apart:
            aucs = [near_far_auc(each[::2], each[1::2]) for each in apart]
            metrics["val_near_far_auc"] = float(np.mean(aucs))
        recalls = [
            recall_at(
                self._of(embeddings, main), self._of(embeddings, finer), _NEIGHBOURS
            )
            for main, finer in (places.T for places in self._places)
        ]
        if recalls:
            metrics["val_recall_at_10"] = float(np.mean(recalls))
        if self._batches:
            losses = [self._loss(projections, loss, each) for each in self._batches]
            metrics["val_loss"] = float(np.mean(losses))
        measured = {"spread": metrics["val_spread"], "rank": metrics["val_rank"]}
        return {**metrics, "val_collapsed": float(collapse(measured) is not None)}

    def _loss(
        self, projections: np.ndarray, loss: torch.nn.Module, batch: PairBatch
    ) -> float:
        z = torch.from_numpy(self._of(projections, batch.tiles))
        relations = (batch.positive, batch.negative)
        return float(loss(z, *(torch.from_numpy(r) for r in relations)))

    def _of(self, values: np.ndarray, tiles: np.ndarray) -> np.ndarray:
        return values[self._at[tiles]]

    def _apart(self, values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        first, second = (self._of(values, column) for column in pairs.T)
        return pair_distances(first, second)

    def _draw_near_far(
        self, part: TileIndex, config: ValidationConfig, mpp: float
    ) -> np.ndarray:
        """Pairs [P, 2], near at even places and far at odd ones."""
        try:
            source = near_far_pairs(part, config.near_um, config.far_um, mpp)
            source.check(config.pairs)
        except InputError as error:
            message = str(error).removeprefix("pairs: ")
            self.notes.append(
                f"no near-far AUC at {mpp:g} um/px with validation.near_um="
                f"{config.near_um:g}, validation.far_um={config.far_um:g}: {message}"
            )
            return np.zeros((0, 2), np.int64)
        pairs = source.draw(0, 0, np.arange(2 * config.pairs))
        whole = (pairs[:, 0] != pairs[:, 1]).reshape(-1, 2).all(axis=1)
        return pairs[np.repeat(whole, 2)]

    def _draw_places(self, part: TileIndex, num: int) -> list[np.ndarray]:
        """Per pair of scales, distinct places [P, 2]: tile, finer tile."""
        found = []
        for fine, coarse in zip(part.scales, part.scales[1:], strict=False):
            source = finer_pairs(part, (fine, coarse))
            try:
                source.check(num)
            except InputError as error:
                self.notes.append(f"no recall at {coarse:g} um/px: {error}")
                continue
            pairs = source.draw(0, 0, np.arange(num))
            pairs = pairs[pairs[:, 0] != pairs[:, 1]]
            found.append(pairs[np.unique(pairs[:, 0], return_index=True)[1]])
        return found

    def _draw_batches(
        self, part: TileIndex, pairs: Part, batch_size: int, num: int
    ) -> list[PairBatch]:
        """At most ``num`` batches that hold positives and negatives."""
        source = components.build(PAIRS, pairs, part)
        try:
            source.check(batch_size // 2)
        except InputError as error:
            self.notes.append(f"no validation loss: {error}")
            return []
        tries = range(_TRIES + num)
        drawn = (draw_batch(source, 0, i, batch_size // 2) for i in tries)
        whole = (b for b in drawn if b.positive.any() and b.negative.any())
        found = list(itertools.islice(whole, num))
        if not found:
            self.notes.append("no validation loss: no batch has like and unlike pairs")
        return found
