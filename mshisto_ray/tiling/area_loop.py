"""The loop of ``area_average``, compiled by numba: for where that extra is installed.

Importing this takes a process one or two seconds. The machine code is kept beside this
file, or in the user's cache where that folder may not be written, for each kind of
processor.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_SHARES = "int64[:, ::1], float32[:, ::1], int64[:, ::1]"
_SIGNATURE = (
    f"void(uint8[:, ::1], {_SHARES}, {_SHARES}, float32, "
    "float32[::1], float32[::1], uint8[:, ::1])"
)


@numba.njit
def _exact(pixels, rows, row_shares, cols, col_shares, channel):
    """One value from sums of integers, as ``area_average`` has it beside BLAS."""
    total = 0
    for r in range(len(rows)):
        across = 0
        for c in range(len(cols)):
            across += col_shares[c] * pixels[rows[r], 3 * cols[c] + channel]
        total += across * row_shares[r]
    return (total + (1 << 51)) >> 52


def _average(
    pixels,
    rows,
    row_shares,
    row_exact,
    cols,
    col_shares,
    col_exact,
    sure,
    line,
    sums,
    out,
):
    """Area average of three channels.

    Args:
        pixels: [H, 3 W].
        rows: the input rows of each output row, [side, taps].
        row_shares: their weights.
        row_exact: the same as integers of 26 bits.
        cols: the input columns of each output column.
        col_shares: their weights.
        col_exact: the same as integers.
        sure: distance to a whole number up to which a sum in float32 rounds to it.
        line: memory for a line of the input, [3 W].
        sums: memory for a line of the output, [3 side].
        out: [side, 3 side], written.
    """
    half = np.float32(0.5)
    for i in range(len(out)):
        for k in range(rows.shape[1]):
            share, values = row_shares[i, k], pixels[rows[i, k]]
            if k == 0:
                for v in range(len(line)):
                    line[v] = share * np.float32(values[v])
            elif share != 0:
                for v in range(len(line)):
                    line[v] += share * np.float32(values[v])
        for j in range(len(cols)):
            red = green = blue = np.float32(0)
            for k in range(cols.shape[1]):
                share, v = col_shares[j, k], 3 * cols[j, k]
                red += share * line[v]
                green += share * line[v + 1]
                blue += share * line[v + 2]
            sums[3 * j], sums[3 * j + 1], sums[3 * j + 2] = red, green, blue
        unsure = np.int32(0)
        for v in range(len(sums)):
            whole = np.int32(sums[v] + half)
            out[i, v] = np.uint8(whole)
            unsure += np.int32(abs(sums[v] - np.float32(whole)) > sure)
        if unsure:
            for v in range(len(sums)):
                if abs(sums[v] - np.float32(out[i, v])) > sure:
                    j, channel = v // 3, v % 3
                    out[i, v] = _exact(
                        pixels, rows[i], row_exact[i], cols[j], col_exact[j], channel
                    )


def _compile(keep: bool) -> Any:
    # Processors that add a product in one step may: what rounding changes is summed
    # anew as integers.
    return numba.njit(
        _SIGNATURE, nogil=True, error_model="numpy", fastmath={"contract"}, cache=keep
    )(_average)


try:
    average = _compile(keep=True)
except (RuntimeError, OSError):  # there is no folder that may be written
    average = _compile(keep=False)
