"""Exact retrieval among the tiles of other slides, against scikit-learn's search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from mshisto_ray.evaluation.exclusion import Exclusion
from mshisto_ray.evaluation.neighbours import nearest
from mshisto_ray.jobs.benchmarks._benchmark import (
    Benchmark,
    Measure,
    forget_peak_memory,
    interleaved,
    peak_memory_mib,
)

_NEIGHBOURS = 5
_TILES_PER_SLIDE = 4000
_TARGET, _MOST_MIB = 1.3, 3 * 1024
_CHECKED = 16


def build(
    *,
    rows: Annotated[int, Field(ge=1000)] = 1_000_000,
    dim: Annotated[int, Field(ge=2)] = 128,
    queries: Annotated[int, Field(ge=16)] = 1024,
    repeats: Annotated[int, Field(ge=2)] = 5,
) -> Benchmark:
    """Five nearest tiles of other slides; scikit-learn may find any tile. One thread.

    Args:
        rows: tiles to find, made at random with a shift of each slide.
        dim: width of the embeddings.
        queries: number of queries in each repeat, of all slides.
        repeats: times that each way is measured, in turns; the median ratio counts.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        del folder  # nothing is written
        with threadpool_limits(1):
            return _measure(rows, dim, queries, repeats)

    return measure


def _measure(rows: int, dim: int, queries: int, repeats: int) -> dict[str, Measure]:
    rng = np.random.default_rng(0)
    slide = np.arange(rows) // _TILES_PER_SLIDE
    values = rng.standard_normal((rows, dim), dtype=np.float32)
    values += rng.standard_normal((slide[-1] + 1, dim), dtype=np.float32)[slide]
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    query_rows = np.sort(rng.choice(rows, queries, replace=False))
    exclusion = Exclusion(slide)
    forget_peak_memory()
    found = nearest(values, query_rows, _NEIGHBOURS, exclusion)
    peak = peak_memory_mib()
    exact = _share_exact(values, slide, query_rows, found.rows)
    brute = NearestNeighbors(n_neighbors=_NEIGHBOURS, algorithm="brute", n_jobs=1)
    brute.fit(values)

    def ours() -> None:
        nearest(values, query_rows, _NEIGHBOURS, exclusion)

    def sklearn() -> None:
        brute.kneighbors(values[query_rows])

    seconds = interleaved({"ours": ours, "sklearn": sklearn}, repeats)
    ratio = float(np.median(seconds["sklearn"] / seconds["ours"]))
    rate = {name: queries / float(np.median(value)) for name, value in seconds.items()}
    return {
        "retrieve.queries_per_s": Measure(
            rate["ours"], "1/s", baseline=rate["sklearn"]
        ),
        "retrieve.ratio": Measure(ratio, "x", target=_TARGET),
        "retrieve.exact": Measure(exact, "share of queries checked", target=1.0),
        "retrieve.peak_memory": Measure(peak, "MiB", target=_MOST_MIB, sense="at most"),
    }


def _share_exact(
    values: np.ndarray, slide: np.ndarray, query_rows: np.ndarray, found: np.ndarray
) -> float:
    """Share of some queries whose rows are those of a plain search in float64."""
    some = np.linspace(0, len(query_rows) - 1, _CHECKED).astype(int)
    hits = []
    for query in some:
        row = query_rows[query]
        apart = np.zeros(len(values))
        for start in range(0, len(values), 1 << 16):
            part = slice(start, start + (1 << 16))
            gap = values[part].astype(np.float64) - values[row]
            apart[part] = (gap * gap).sum(1)
        apart[slide == slide[row]] = np.inf
        wanted = np.argsort(apart, kind="stable")[:_NEIGHBOURS]
        hits.append(np.array_equal(wanted, found[query]))
    return float(np.mean(hits))
