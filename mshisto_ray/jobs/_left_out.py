"""The list of what training leaves out for views that lack it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mshisto_ray.progress import say
from mshisto_ray.store.failures import CSV, Failure, write_failures


def write_left_out(job: str, out: Path, failures: Sequence[Failure]) -> None:
    """Write ``failures.csv`` and ``.parquet``, and say so.

    Without failures nothing is written, unless an earlier run wrote some.
    """
    if failures or (out / CSV).exists():
        write_failures(out, failures)
    if failures:
        say(f"{job}: what views lack, slide by slide and tile by tile: {out / CSV}")
