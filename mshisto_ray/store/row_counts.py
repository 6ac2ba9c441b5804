"""How many rows a directory of embeddings has: in each shard, and of each slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa


def count_rows(tables: Sequence[pa.Table]) -> dict[str, dict[float, int]]:
    """Counts for a shard's metadata, by configured mpp.

    ``rows``: all; ``own``: those with enough tissue themselves.

    Args:
        tables: of one scale each; without rows, a table is left out.
    """
    filled = [(table["mpp"][0].as_py(), table) for table in tables if table.num_rows]
    return {
        "rows": {mpp: table.num_rows for mpp, table in filled},
        "own": {mpp: int(table["own"].to_numpy().sum()) for mpp, table in filled},
    }


def count_slide(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``rows_per_scale`` and ``own_per_scale`` of a slide, for ``slides.parquet``.

    Args:
        shards: metadata of the slide's shards; those of earlier versions do not count
            their own rows, which makes ``own_per_scale`` None.
    """
    knows_own = all("own" in shard for shard in shards)
    return {
        "rows_per_scale": _sums(shard["rows"] for shard in shards),
        "own_per_scale": _sums(s["own"] for s in shards) if knows_own else None,
    }


def _sums(parts: Iterable[Mapping[Any, int]]) -> list[tuple[float, int]]:
    total: Counter[float] = Counter()
    for part in parts:
        total.update({float(mpp): num for mpp, num in part.items()})
    return sorted(total.items())
