"""What products of small matrices share: memory that is used again, and their size."""

from __future__ import annotations

import threading

import numpy as np

# Multiplications of a product, up to which BLAS does not spread them over threads.
MOST = 2**18


class WorkMemory(threading.local):
    """Arrays that a thread uses again and again.

    Memory that is new for each tile takes longer than the arithmetic.
    """

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, name: str, rows: int, cols: int) -> np.ndarray:
        """A float32 array [rows, cols] of any content."""
        size = rows * cols
        if name not in self._kept or self._kept[name].size < size:
            self._kept[name] = np.empty(size, np.float32)
        return self._kept[name][:size].reshape(rows, cols)
