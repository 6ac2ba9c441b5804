"""Bags of a batch padded to the longest, for devices where one call is fastest."""

from __future__ import annotations

import torch


class Padding:
    """Places of N rows in B bags of K cells, K the longest bag's rows.

    Bags of one size are padded without a copy. ``offsets``: int64 [B + 1] on the CPU;
    ``device``: of the values.
    """

    def __init__(self, offsets: torch.Tensor, device: torch.device):
        sizes, rows = offsets.diff(), int(offsets[-1])
        self._bags, self._longest = len(sizes), int(sizes.max())
        self._cells: torch.Tensor | None = None
        if rows != self._bags * self._longest:
            shift = torch.arange(self._bags) * self._longest - offsets[:-1]
            shift, sizes = torch.stack([shift, sizes]).to(device)
            shift = shift.repeat_interleave(sizes, output_size=rows)
            self._cells = torch.arange(rows, device=device) + shift

    def pad(self, values: torch.Tensor, fill: float) -> torch.Tensor:
        """Rows [N, ...] to [B, K, ...]; cells without a row hold ``fill``."""
        shape = (self._bags, self._longest)
        if self._cells is None:
            return values.unflatten(0, shape)
        full = values.new_full((shape[0] * shape[1], *values.shape[1:]), fill)
        return full.index_copy(0, self._cells, values).unflatten(0, shape)

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        """Cells [B, K, ...] to the rows [N, ...]."""
        flat = padded.flatten(0, 1)
        return flat if self._cells is None else flat.index_select(0, self._cells)
