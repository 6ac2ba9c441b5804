"""The search for nearest rows: in float32, repeated in float64 where that may be wrong.

Scores are computed block by block as float32 matrix products, so memory stays small.
For each query a few candidates more than k are kept, and their distances recomputed in
float64. Where these prove that no discarded row can be among the nearest, the result
is exact; otherwise (many nearly equal rows) the query is searched again in float64,
with ties in the order of rows. So CPU and GPU, and every block size, give the same
rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from mshisto_ray.evaluation.exclusion import Exclusion, Groups

_BATCH = 1024  # queries of a block of scores
_BLOCK = {"cpu": 2048, "cuda": 1 << 16}  # rows: on a CPU the block stays in its cache
_CONVERTED = 4096  # rows that are converted at once
_MEASURED = 128  # queries whose candidates are measured at once
_SPARE = 8  # candidates beyond k
_DECIMALS = 13  # of scores relative to the largest; equal when rounded: a tie
_UNIT = 2.0**-24  # relative rounding of float32


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of each query, nearest first; ties by row number.

    ``rows``: int64 [Q, k], -1 where fewer are allowed; ``distance``: float64 [Q, k],
    inf there.
    """

    rows: np.ndarray
    distance: np.ndarray


def parts_of(num: int) -> Iterator[slice]:
    for start in range(0, num, _CONVERTED):
        yield slice(start, start + _CONVERTED)


def as_measured(vectors: np.ndarray, normalise: bool) -> np.ndarray:
    """Vectors [..., D] in float64, of length 1 if ``normalise`` (0 stays 0)."""
    ready = vectors.astype(np.float64)
    if normalise:
        length = np.sqrt((ready * ready).sum(-1, keepdims=True))
        ready /= np.where(length > 0, length, 1)
    return ready


def _centre(values: np.ndarray, normalise: bool) -> np.ndarray:
    total = np.zeros(values.shape[1])
    for part in parts_of(len(values)):
        total += as_measured(values[part], normalise).sum(0)
    return total / len(values)


class Search:
    """A search for the ``k`` points [N, D] nearest to rows of ``vectors`` [M, D].

    A score is q.c - |c|^2 / 2: the higher, the nearer.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        values: np.ndarray,
        k: int,
        exclusion: Exclusion | None,
        normalise: bool,
        device: str,
    ):
        self._sets, self._k, self._normalise = (vectors, values), k, normalise
        self._exclusion = exclusion
        # Centring changes no distance and keeps the products small, and so precise.
        self._centre = _centre(values, normalise)
        self._points = self._converted(values, device)
        same = vectors is values
        self._vectors = self._points if same else self._converted(vectors, device)
        self._half = _squared(self._points) / 2
        longest = _squared(self._vectors).max(), _squared(self._points).max()
        scale = float(max(longest)) or 1.0
        # The rounding error of a score: below 4 sqrt(D) u |q||c| with all but
        # negligible probability (Higham and Mary 2019), and four single roundings.
        self._error = 4 * (values.shape[1] ** 0.5 + 1) * _UNIT * scale
        self._scale = scale

    def _converted(self, vectors: np.ndarray, device: str) -> torch.Tensor:
        points = torch.empty(vectors.shape, dtype=torch.float32)
        for part in parts_of(len(vectors)):
            ready = as_measured(vectors[part], self._normalise)
            points[part] = torch.from_numpy(ready - self._centre)
        return points.to(device)

    def run(self, queries: np.ndarray) -> Neighbours:
        """Neighbours of rows [Q] of ``vectors``; sorted if there is an exclusion."""
        rows = np.full((len(queries), self._k), -1, np.int64)
        distance = np.full((len(queries), self._k), np.inf)
        for start in range(0, len(queries), _BATCH):
            part = slice(start, start + _BATCH)
            found = self._batch(queries[part])
            width = found.rows.shape[1]
            rows[part, :width], distance[part, :width] = found.rows, found.distance
        return Neighbours(rows, distance)

    def _batch(self, queries: np.ndarray) -> Neighbours:
        """Search in float32; repeat in float64 where that is not proven exact."""
        scores, index = self._scan(queries, self._k + _SPARE, exact=False)
        found = self._measure(queries, scores, index)
        if index.shape[1] == len(self._points):
            return found  # every row was measured
        length = _squared(self._wanted(queries)).cpu().numpy()
        kth = (length - found.distance[:, -1] ** 2) / 2
        passed = scores[:, -1].double().cpu().numpy()
        doubtful = (passed > -np.inf) & (passed + self._error >= kth)
        if doubtful.any():
            exact = self._scan(queries[doubtful], self._k + _SPARE, exact=True)
            again = self._measure(queries[doubtful], *exact)
            found.rows[doubtful], found.distance[doubtful] = again.rows, again.distance
        return found

    def _wanted(self, queries: np.ndarray) -> torch.Tensor:
        return self._vectors[torch.from_numpy(queries).to(self._vectors.device)]

    def _scan(
        self, queries: np.ndarray, k: int, exact: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Best scores and their rows, best first, [Q, <= k].

        ``exact``: in float64, ties by row number; else in float32, ties in any order.
        """
        kind = torch.float64 if exact else torch.float32
        wanted = self._wanted(queries).to(kind)
        shape = (len(wanted), min(k, len(self._points)))
        best = torch.full(shape, -torch.inf, dtype=kind, device=wanted.device)
        index = torch.full_like(best, -1, dtype=torch.int64)
        groups = Groups(self._exclusion, queries) if self._exclusion else None
        step = _BLOCK[wanted.device.type]
        made = torch.empty(len(wanted) * step, dtype=kind, device=wanted.device)
        for start in range(0, len(self._points), step):
            block = slice(start, min(start + step, len(self._points)))
            width = block.stop - start
            scores = made[: len(wanted) * width].view(len(wanted), width)
            torch.mm(wanted, self._points[block].to(kind).T, out=scores)
            scores -= self._half[block].to(kind)
            if exact:
                scores.div_(self._scale).round_(decimals=_DECIMALS)
            if groups:
                _leave_out(scores, block, groups)
            # Few queries find a better row in a block: only these are sorted.
            better = (scores.amax(1) > best[:, -1]).nonzero()[:, 0]
            if len(better):
                joined = torch.cat([best[better], scores[better]], 1)
                order = _top(joined, best.shape[1], exact)
                here = torch.arange(start, block.stop, device=index.device)
                rows = torch.cat([index[better], here.expand(len(better), -1)], 1)
                best[better] = joined.gather(1, order)
                index[better] = rows.gather(1, order)
        return best, index

    def _measure(
        self, queries: np.ndarray, scores: torch.Tensor, index: torch.Tensor
    ) -> Neighbours:
        """The k nearest of the candidates by distances in float64, ties by row."""
        vectors, values = self._sets
        rows, apart = index.cpu().numpy(), np.empty(index.shape)
        for start in range(0, len(rows), _MEASURED):
            part = slice(start, start + _MEASURED)
            gap = as_measured(values[rows[part]], self._normalise)
            gap -= as_measured(vectors[queries[part]], self._normalise)[:, None]
            apart[part] = np.sqrt((gap * gap).sum(2))
        apart[scores.cpu().numpy() == -np.inf] = np.inf
        rows = np.where(np.isinf(apart), -1, rows)
        order = np.lexsort((rows, apart))[:, : self._k]
        return Neighbours(*(np.take_along_axis(a, order, 1) for a in (rows, apart)))


def _squared(vectors: torch.Tensor) -> torch.Tensor:
    """Squared length along the last axis, in float64; [N, ...]."""
    parts = vectors.split(_CONVERTED)
    return torch.cat([part.double().square().sum(-1) for part in parts])


def _top(scores: torch.Tensor, k: int, stable: bool) -> torch.Tensor:
    """Columns of the k highest scores of each row; ``stable``: ties by column."""
    if stable:
        return scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores.topk(k, dim=1).indices


def _leave_out(scores: torch.Tensor, block: slice, groups: Groups) -> None:
    """Set the scores of excluded rows of a block to -inf."""
    for part, first, last in groups.within(block):
        own = scores[part, first - block.start : last - block.start]
        near = groups.near(part, first, last)
        if near is None:
            own.fill_(-torch.inf)
        else:
            own.masked_fill_(torch.from_numpy(near).to(own.device), -torch.inf)
