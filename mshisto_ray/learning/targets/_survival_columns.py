"""Columns of ``predictions.parquet`` of survival: times, events, risks and shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mshisto_ray.learning.targets._follow_up import RISK


def truth_columns(truth: np.ndarray) -> dict[str, pa.Array]:
    """``time, event`` of truth [N, 2]."""
    known = np.isfinite(truth[:, 1])
    event = pa.array(np.where(known, truth[:, 1], 0), pa.int8(), mask=~known)
    return {"time": pa.array(truth[:, 0], pa.float64()), "event": event}


def value_columns(values: np.ndarray, names: Sequence[str]) -> dict[str, pa.Array]:
    """``risk, survival_<time>`` .. of values [N, V]."""
    columns = zip(_labels(names), values.T, strict=True)
    return {name: pa.array(column, pa.float64()) for name, column in columns}


def read_columns(
    table: pa.Table, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of both: truth [N, 2] and values [N, V]."""
    truth = [table[name].to_numpy().astype(np.float64) for name in ("time", "event")]
    values = [table[name].to_numpy() for name in _labels(names)]
    return np.stack(truth, 1), np.stack(values, 1)


def _labels(names: Sequence[str]) -> list[str]:
    return [RISK, *(f"survival_{name}" for name in names if name != RISK)]
