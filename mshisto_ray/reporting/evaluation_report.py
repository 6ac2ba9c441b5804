"""The files of an evaluation: its numbers as JSON and Parquet, and a summary."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mshisto_ray.evaluation.encoder_scores import Score, chance, difference
from mshisto_ray.evaluation.labelled_tiles import ExclusionConfig
from mshisto_ray.evaluation.neighbours import Neighbours
from mshisto_ray.evaluation.plan import Plan
from mshisto_ray.reporting.evaluation_summary import Difference, summary
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.manifest import write_text
from mshisto_ray.store.shards import write_shard

_METRICS = pa.schema(
    [
        pa.field("encoder", pa.string(), False),
        pa.field("minus", pa.string()),
        pa.field("metric", pa.string(), False),
        pa.field("value", pa.float64(), False),
        pa.field("low", pa.float64(), False),
        pa.field("high", pa.float64(), False),
    ]
)


Scores = Mapping[str, Mapping[str, Score]]


def write_report(
    out: Path,
    plan: Plan,
    scores: Scores,
    found: Mapping[str, Neighbours],
    exclude: ExclusionConfig,
) -> str:
    """Write ``metrics.json, metrics.parquet, neighbours.parquet, summary.md``.

    Args:
        out: folder.
        plan: queries and pairs.
        scores: of each encoder.
        found: neighbours of each encoder.
        exclude: the tiles that queries could not find.

    Returns:
        The summary.
    """
    intervals = {n: {m: s.interval for m, s in e.items()} for n, e in scores.items()}
    gaps = [
        Difference(one, two, difference(scores[one], scores[two]))
        for one, two in itertools.combinations(scores, 2)
    ]
    levels, table = chance(plan), metric_table(intervals, gaps)
    write_shard(out / "metrics.parquet", [table])
    write_shard(out / "neighbours.parquet", [neighbour_table(plan, found)])
    content = {"chance": _plain(levels), "notes": plan.notes}
    content["metrics"] = [_plain(row) for row in table.to_pylist()]
    write_text(out / "metrics.json", json.dumps(content, indent=2) + "\n")
    text = summary(_about(plan, exclude), intervals, levels, gaps, plan.notes)
    write_text(out / "summary.md", text)
    return text


def metric_table(
    encoders: Mapping[str, Mapping[str, Interval]], differences: Sequence[Difference]
) -> pa.Table:
    """``encoder, minus, metric, value, low, high``: 95 % intervals, NaN without one.

    ``minus`` is null for an encoder's own score; else the row is a paired difference.
    """
    groups = [(name, None, scores) for name, scores in encoders.items()]
    groups += [(gap.first, gap.second, gap.intervals) for gap in differences]
    rows = [
        {
            "encoder": encoder,
            "minus": minus,
            "metric": metric,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
        }
        for encoder, minus, intervals in groups
        for metric, interval in intervals.items()
    ]
    return pa.Table.from_pylist(rows, _METRICS)


def neighbour_table(plan: Plan, found: Mapping[str, Neighbours]) -> pa.Table:
    """A row for every neighbour of every query of every encoder.

    ``encoder, rank`` (1 is nearest), tile and class of the query (``slide_id, mpp, row,
    col, class``), of what it found (``found_slide_id``...), and their ``distance``.
    """
    queries = plan.retrieval.queries
    parts = []
    for name, neighbours in found.items():
        depth = neighbours.rows.shape[1]
        rank = np.tile(np.arange(1, depth + 1), len(queries))
        query, row = queries.repeat(depth), neighbours.rows.ravel()
        there = row >= 0
        columns = {"encoder": np.full(int(there.sum()), name), "rank": rank[there]}
        columns |= _tiles(plan, query[there], "")
        columns |= _tiles(plan, row[there], "found_")
        columns["distance"] = neighbours.distance.ravel()[there]
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def _tiles(plan: Plan, rows: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    labelled = plan.labelled
    slide_id, mpp, row, col = labelled.tiles.select(rows).identity()
    columns = {
        "slide_id": slide_id.astype(str),
        "mpp": mpp,
        "row": row,
        "col": col,
        "class": np.array(labelled.classes)[labelled.label[rows]],
    }
    return {f"{prefix}{name}": column for name, column in columns.items()}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with None for NaN, which JSON does not have."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in values.items()
    }


def _about(plan: Plan, exclude: ExclusionConfig) -> str:
    """A paragraph on tiles, queries, exclusion and intervals."""
    labelled, task = plan.labelled, plan.retrieval
    counts = ", ".join(f"{name} {n:,}" for name, n in labelled.counts().items())
    rule = {
        "self": "itself",
        "block": f"tiles of its slide within {exclude.block_um:g} um",
    }.get(exclude.by, f"tiles of its {exclude.by}")
    rows = task.queries if len(task.queries) else np.arange(len(labelled.label))
    query = f"{len(rows):,} of them are queries; none may find {rule}."
    if not len(task.queries):
        query = "No queries: only pairs of places are scored."
    return (
        f"{len(labelled.label):,} tiles at {labelled.tiles.mpp:g} um/px of "
        f"{len(labelled.tiles.slide_ids)} slide(s): {counts}. {query} Intervals: 95 % "
        f"bootstrap over {len(np.unique(plan.cluster[rows]))} {plan.cluster_kind}."
    )
