"""Tiles beside tiles on their slides' grids."""

from __future__ import annotations

import torch

_AROUND = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]


class TileNeighbours:
    """The up to eight tiles around each tile, within its bag.

    Args:
        places: row and column of each tile in its slide's grid, int64 [N, 2] on the
            CPU; tiles of other slides of a bag lie far away.
        offsets: int64 [B + 1] of the bags, on the CPU.
        device: of the values.
    """

    def __init__(
        self, places: torch.Tensor, offsets: torch.Tensor, device: torch.device
    ):
        bag = torch.arange(len(offsets) - 1).repeat_interleave(offsets.diff())
        low = places.amin(0) - 1  # a margin, so that no step leads to another row
        height, width = (places.amax(0) - low + 2).tolist()
        row, col = (places - low).unbind(1)
        cell = (bag * height + row) * width + col
        cells, own = cell.unique(return_inverse=True)
        steps = torch.tensor([r * width + c for r, c in _AROUND])
        wanted = cells[:, None] + steps
        found = torch.searchsorted(cells, wanted).clamp(max=len(cells) - 1)
        is_there = cells[found] == wanted
        self._tile = own.to(device)
        # Absent neighbours point to an empty cell after the last.
        self._around = torch.where(is_there, found, len(cells)).to(device)
        sizes = own.bincount(minlength=len(cells) + 1)
        count = sizes[self._around.cpu()].sum(1)
        self._count, self._num = count.to(device), len(cells)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over each tile's neighbours, [N, A] to [N, A]; its own without any."""
        cells = values.new_zeros(self._num + 1, values.shape[1])
        cells = cells.index_add(0, self._tile, values)
        total = cells[self._around].sum(1)[self._tile]
        count = self._count[self._tile][:, None]
        return torch.where(count > 0, total / count.clamp(min=1), values)
