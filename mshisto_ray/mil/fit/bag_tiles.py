"""Tiles of bags, at one scale or several: joined, and some of them taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Tiles(NamedTuple):
    """Tiles of slides: [N, D], and (tiles, counts) per finer scale."""

    h: torch.Tensor
    finer: tuple[tuple[torch.Tensor, np.ndarray], ...]


def offsets_of(counts: Sequence[int] | np.ndarray) -> torch.Tensor:
    """Offsets, int64 [B + 1], of B bags of so many instances."""
    if len(counts) == 1:  # for small bags the calls dominate the cost
        return torch.tensor([0, int(counts[0])])
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return torch.from_numpy(ends)


def concatenate(parts: Sequence[Tiles]) -> Tiles:
    """The tiles of several bags as those of one."""
    if len(parts) == 1:
        return parts[0]
    scales = zip(*(part.finer for part in parts), strict=True)
    finer = tuple(
        (torch.cat([h for h, _ in scale]), np.concatenate([n for _, n in scale]))
        for scale in scales
    )
    return Tiles(torch.cat([part.h for part in parts]), finer)


def take_rows(tiles: Tiles, rows: np.ndarray) -> Tiles:
    """Some rows with their finer tiles."""
    h, finer = tiles.h[torch.from_numpy(rows)], []
    for values, counts in tiles.finer:
        starts = (np.cumsum(counts) - counts)[rows]
        kept = counts[rows]
        shift = np.repeat(starts - (np.cumsum(kept) - kept), kept)
        rows = np.arange(kept.sum()) + shift
        finer.append((values[torch.from_numpy(rows)], kept))
    return Tiles(h, tuple(finer))
