"""Standardised batches of bags for a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mshisto_ray.mil.bags import Bags
from mshisto_ray.representation import normalise
from mshisto_ray.representation.normalise import Moments, Standardisation
from mshisto_ray.store.features import ArrayFeatures

# Below this size all instances are standardised once; above, batch by batch, from
# the mapped file: training then needs memory for one batch.
_READY_BYTES = 1 << 28
# Instances per forward pass without gradients.
_EVALUATION_ROWS = 1 << 16


def slide_moments(bags: Bags) -> Moments:
    """Moments of every slide that is in a bag (zeros for others): one reading."""
    used = {member for members in bags.members for member in members}
    num, dim = len(bags.features.slide_ids), bags.features.dim
    found = Moments(np.zeros(num, np.int64), np.zeros((num, dim)), np.zeros((num, dim)))
    for index in sorted(used):
        count, mean, scatter = normalise.moments(bags.features.read(index))
        found.count[index], found.mean[index] = count, mean
        found.scatter[index] = scatter
    return found


def fit_standardisation(
    bags: Bags, slides: Moments, index: np.ndarray
) -> Standardisation:
    """Standardisation over all instances of the bags at ``index``."""
    rows = sorted({member for i in index for member in bags.members[i]})
    part = (slides.count[rows], slides.mean[rows], slides.scatter[rows])
    return normalise.fit(Moments(*part))


class Batches:
    """Gathers bags, standardised, on a device.

    One bag of a small set is a view. Batches hold ``h`` [N, D] float32 and the bags'
    ``offsets`` int64 [B + 1] on the CPU.
    """

    def __init__(
        self, bags: Bags, standardisation: Standardisation, device: torch.device
    ):
        self._bags = bags
        self._device = device
        self._standardise = standardisation.to(device)
        self._ready: torch.Tensor | None = None
        features = bags.features
        if (
            isinstance(features, ArrayFeatures)
            and features.values.size * 4 <= _READY_BYTES
        ):
            self._ready = self._prepare(features.values)
            self._offsets: list[int] = features.offsets.tolist()

    def get(self, index: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, ...]:
        """``h, offsets`` of the bags at ``index``, in that order."""
        parts = [part for i in index for part in self._parts(int(i))]
        h = parts[0] if len(parts) == 1 else torch.cat(parts)
        sizes = self._bags.sizes[np.asarray(index)]
        offsets = np.concatenate([[0], sizes.cumsum()])
        return h, torch.from_numpy(offsets)

    def in_order(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """``index`` cut into runs for evaluation, by their number of instances."""
        sizes = self._bags.sizes[index].cumsum()
        start = 0
        while start < len(index):
            limit = sizes[start - 1] * (start > 0) + _EVALUATION_ROWS
            stop = max(start + 1, int(np.searchsorted(sizes, limit, side="right")))
            yield index[start:stop]
            start = stop

    def _parts(self, bag: int) -> list[torch.Tensor]:
        if self._ready is None:
            return [self._prepare(values) for values in self._bags.read(bag)]
        starts = self._offsets
        members = self._bags.members[bag]
        return [self._ready[starts[m] : starts[m + 1]] for m in members]

    def _prepare(self, values: np.ndarray) -> torch.Tensor:
        return self._standardise(torch.from_numpy(values).to(self._device))
