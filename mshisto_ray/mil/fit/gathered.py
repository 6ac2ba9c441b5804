"""The instances of all models of a stack in one matrix, and their rows in it.

A step takes the instances of all its bags with one call, whatever the number of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold_model import FoldTask
from mshisto_ray.mil.fit.vote import EpochTiles, VoteConfig, draw
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.representation.normalise import Standardisation

_CPU = torch.device("cpu")


class DrawnRows(NamedTuple):
    """Draws of one model: ``rows`` [N] of the matrix, and the size of each bag [B]."""

    rows: np.ndarray
    sizes: np.ndarray


class Gathered:
    """Standardised instances of bags, once for each standardisation.

    Args:
        bags: their instances are read once, bag by bag.
        tasks: models that are trained; those of one standardisation share its rows.
    """

    def __init__(self, bags: Bags, tasks: Sequence[FoldTask]):
        self._bags = bags
        self._start = np.concatenate([[0], bags.sizes.cumsum()]).astype(np.int64)
        fits = {id(task.standardisation): task.standardisation for task in tasks}
        raw = _instances(bags)
        self._first = {key: k * len(raw) for k, key in enumerate(fits)}
        self.values = torch.cat([fit(raw) for fit in fits.values()])
        self._num, self._batches = len(raw), {}

    def batches(self, task: FoldTask, config: TrainConfig) -> Batches:
        """What ``fit_fold`` draws from; shared by equal ones."""
        tiles = config.epoch_tiles
        key = id(task.standardisation), config.vote, tiles
        if key not in self._batches:
            given = self._bags, task.standardisation, _CPU, config.vote, tiles
            self._batches[key] = Batches(*given)
        return self._batches[key]

    def rows(
        self,
        draws: np.ndarray,
        fit: Standardisation,
        random: VoteConfig | EpochTiles | None,
    ) -> DrawnRows:
        """Rows of draws [M, 2] (see ``Batches``), with a standardisation.

        ``random``: what the draws are drawn with; None: they are whole bags.
        """
        bags = draws[:, 0]
        first = self._start[bags] + self._first[id(fit)]
        if random is None:
            sizes = self._bags.sizes[bags]
            shift = np.repeat(first - (sizes.cumsum() - sizes), sizes)
            return DrawnRows(np.arange(len(shift)) + shift, sizes)
        names, whole = self._bags.names, self._bags.sizes
        given = zip(bags.tolist(), draws[:, 1].tolist(), strict=True)
        own = [draw(random, names[b], int(whole[b]), number) for b, number in given]
        sizes = np.array([len(part) for part in own], np.int64)
        return DrawnRows(np.concatenate(own) + np.repeat(first, sizes), sizes)

    def places_of(self, rows: torch.Tensor) -> Callable[[], torch.Tensor] | None:
        """Reads where rows lie in their slides' grids, int64 [N, 2]; None: unknown."""
        if self._bags.places is None:
            return None
        return lambda: torch.from_numpy(self._places[rows.numpy() % self._num])

    @cached_property
    def _places(self) -> np.ndarray:
        every = [self._bags.bag_places(bag) for bag in range(len(self._bags))]
        return np.concatenate(every)


def _instances(bags: Bags) -> torch.Tensor:
    """Instances of all bags as they are stored, bag by bag, float32 [N, D]."""
    read = [part for bag in range(len(bags)) for part in bags.read(bag)]
    return torch.from_numpy(np.concatenate(read).astype(np.float32, copy=False))


def gathered_bytes(bags: Bags, num_fits: int) -> int:
    """Memory of the matrix."""
    return int(bags.sizes.sum()) * bags.features.dim * 4 * num_fits
