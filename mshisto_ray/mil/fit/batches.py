"""Standardised batches of bags for a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch

from mshisto_ray.mil.combinations import Finer
from mshisto_ray.mil.fit.bag_tiles import Tiles, concatenate, offsets_of, take_rows
from mshisto_ray.mil.fit.vote import (
    EpochTiles,
    VoteConfig,
    draw,
    num_draws,
    without_copies,
)
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.representation.normalise import Standardisation
from mshisto_ray.store.features import ArrayFeatures

# Below this size all instances are standardised once; above, batch by batch, from
# the mapped file: training then needs memory for one batch.
_READY_BYTES = 1 << 30
# Tiles of all scales per forward pass without gradients.
_EVALUATION_ROWS = 1 << 16


class BagBatch(NamedTuple):
    """Bags for a model: tiles [N, D], bags' offsets [B + 1], and finer scales.

    float32; offsets are int64 on the CPU. ``places`` reads where the instances lie in
    their slides' grids, int64 [K, 2] on the CPU, slides of a bag far apart; None: not
    known. ``rows``: the tile of each instance, int64 [K], where bags share tiles; None:
    instances are the tiles, in their order. Offsets count instances.
    """

    h: torch.Tensor
    offsets: torch.Tensor
    finer: tuple[Finer, ...] = ()
    places: Callable[[], torch.Tensor] | None = None
    rows: torch.Tensor | None = None


# A bag, and some of its rows (None: all).
_Pick = tuple[int, np.ndarray | None]


class Batches:
    """Gathers bags, standardised, on a device.

    One bag of a small set with one scale is a view. A draw is (bag, number of random
    bag): without a vote every bag has one, number 0, which is the bag itself. With
    ``tiles`` those of training are of an epoch, numbered from 1.
    """

    def __init__(
        self,
        bags: Bags,
        standardisation: Standardisation,
        device: torch.device,
        vote: VoteConfig | None = None,
        tiles: EpochTiles | None = None,
    ):
        self.vote, self._tiles = vote, tiles
        self._bags = bags
        self._device = device
        self._standardise = standardisation.to(device)
        self._known_places: dict[int, np.ndarray] = {}
        all_features = [bags.features, *(scale.features for scale in bags.finer)]
        total = sum(int(f.counts.sum()) * f.dim * 4 for f in all_features)
        self._is_small = total <= _READY_BYTES
        kept = self._is_small and bags.finer
        self._kept: dict[int, Tiles] | None = {} if kept else None

    @cached_property
    def _ready(self) -> torch.Tensor | None:
        """All instances of a small set of one scale, standardised at first use."""
        features = self._bags.features
        if not self._is_small or self._bags.finer:
            return None
        if not isinstance(features, ArrayFeatures):
            return None
        # First use may be a prediction; what is kept has to serve training, too.
        with torch.inference_mode(False):
            values = torch.from_numpy(features.values).to(self._device)
            return self._standardise(values)

    @cached_property
    def _offsets(self) -> list[int]:
        assert isinstance(self._bags.features, ArrayFeatures)
        return self._bags.features.offsets.tolist()

    def get(self, index: Sequence[int] | np.ndarray) -> BagBatch:
        """The whole bags at ``index``, in that order."""
        picks = [(int(i), None) for i in index]
        return self._join([self._bag(bag) for bag, _ in picks], picks)

    def draws(self, draws: np.ndarray, share: bool = True) -> BagBatch:
        """The bags of draws [M, 2].

        With ``share`` a tile of several scales is in the batch once, however many
        random bags hold it: what a model makes of it is the same in all of them.
        """
        random = self.vote or self._tiles
        if random is None:
            return self.get(draws[:, 0])
        names, sizes = self._bags.names, self._bags.sizes
        picks = [
            (bag, draw(random, names[bag], int(sizes[bag]), number))
            if self.vote or number
            else (bag, None)
            for bag, number in draws.tolist()
        ]
        if share and self.vote and self._bags.finer:
            return self._shared(picks)
        parts = [
            self._bag(bag) if rows is None else self._some(bag, rows)
            for bag, rows in picks
        ]
        return self._join(parts, picks)

    def _shared(self, picks: Sequence[_Pick]) -> BagBatch:
        """As ``_join``, with the tiles that some pick of a bag holds, each once."""
        drawn = [(bag, rows) for bag, rows in picks if rows is not None]
        tiles, rows = without_copies(drawn)
        joined = self._join([self._some(*each) for each in tiles.items()], picks)
        offsets = offsets_of([len(own) for _, own in drawn])
        return joined._replace(offsets=offsets, rows=torch.from_numpy(rows))

    def _some(self, bag: int, rows: np.ndarray) -> Tiles:
        """Some rows of a bag; only these are standardised."""
        if self._ready is not None or self._kept is not None:
            return take_rows(self._bag(bag), rows)
        members = self._bags.members[bag]
        raw = concatenate([self._raw(member) for member in members])
        return self._prepare(take_rows(raw, rows))

    def all_draws(self, index: np.ndarray) -> np.ndarray:
        """Every draw [M, 2] of the bags at ``index``, bag by bag."""
        if self.vote is None:
            return np.stack([index, np.zeros_like(index)], 1)
        numbers = [num_draws(self.vote, int(n)) for n in self._bags.sizes[index]]
        number = np.concatenate([np.zeros(0, np.int64), *map(np.arange, numbers)])
        return np.stack([np.repeat(index, numbers), number], 1)

    def training_draws(self, index: np.ndarray, epoch: int) -> np.ndarray:
        """Draws [M, 2] of an epoch (from 1), the same number per bag.

        So small slides weigh no less where random bags vote.
        """
        if self.vote is None:
            number = 0 if self._tiles is None else epoch
            return np.stack([index, np.full_like(index, number)], 1)
        number = np.tile(np.arange(self.vote.bags), len(index))
        return np.stack([np.repeat(index, self.vote.bags), number], 1)

    def in_order(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """All draws of ``index`` in runs of a limited size in tiles, for evaluation."""
        yield from self.runs(self.all_draws(index))

    def runs(self, draws: np.ndarray, most: int | None = None) -> Iterator[np.ndarray]:
        """Draws [M, 2] in runs of at most so many tiles, or of one draw."""
        most = most or _EVALUATION_ROWS
        sizes = self._num_tiles[draws[:, 0]]
        random = self.vote or self._tiles
        if random is not None:
            share = np.minimum(random.size / self._bags.sizes[draws[:, 0]], 1)
            whole = (draws[:, 1] == 0) & (self.vote is None)
            sizes = sizes * np.where(whole, 1, share)
        sizes = sizes.cumsum()
        start = 0
        while start < len(draws):
            limit = sizes[start - 1] * (start > 0) + most
            stop = max(start + 1, int(np.searchsorted(sizes, limit, side="right")))
            yield draws[start:stop]
            start = stop

    @cached_property
    def _num_tiles(self) -> np.ndarray:
        """Tiles of every bag, at all scales."""
        total = self._bags.sizes.astype(float)
        for scale in self._bags.finer:
            counts = {m: int(c.counts.sum()) for m, c in scale.children.items()}
            total += [sum(counts.get(m, 0) for m in ms) for ms in self._bags.members]
        return total

    def _join(self, parts: Sequence[Tiles], picks: Sequence[_Pick]) -> BagBatch:
        joined = concatenate(parts)
        offsets = offsets_of([len(part.h) for part in parts])
        finer = tuple(Finer(h, offsets_of(counts)) for h, counts in joined.finer)
        places = partial(self._places, picks) if self._bags.places else None
        return BagBatch(joined.h, offsets, finer, places)

    def _places(self, picks: Sequence[_Pick]) -> torch.Tensor:
        parts = []
        for bag, rows in picks:
            if bag not in self._known_places:
                self._known_places[bag] = self._bags.bag_places(bag)
            own = self._known_places[bag]
            parts.append(own if rows is None else own[rows])
        return torch.from_numpy(np.concatenate(parts))

    def _bag(self, bag: int) -> Tiles:
        members = self._bags.members[bag]
        if self._kept is None:
            return concatenate([self._member(member) for member in members])
        for member in members:
            if member not in self._kept:
                self._kept[member] = self._member(member)
        return concatenate([self._kept[member] for member in members])

    def _member(self, member: int) -> Tiles:
        if self._ready is not None:
            start, stop = self._offsets[member : member + 2]
            return Tiles(self._ready[start:stop], ())
        return self._prepare(self._raw(member))

    def _raw(self, member: int) -> Tiles:
        """Tiles of a slide as stored; mapped values stay where they are."""
        return Tiles(
            torch.from_numpy(self._bags.features.read(member)),
            tuple(
                (torch.from_numpy(scale.read(member)), scale.children[member].counts)
                for scale in self._bags.finer
            ),
        )

    def _prepare(self, raw: Tiles) -> Tiles:
        """Standardised tiles, on the device."""
        pairs = zip(raw.finer, self._standardise.finer, strict=True)
        return Tiles(
            self._standardise(raw.h.to(self._device)),
            tuple((own(h.to(self._device)), counts) for (h, counts), own in pairs),
        )
