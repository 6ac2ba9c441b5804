"""A planned slide as rows: of ``slides.parquet``, and of its tiles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from mshisto_ray.slides import frame_of, unsound_levels
from mshisto_ray.store import schema
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.tiling.annotation import Region, annotate
from mshisto_ray.tiling.grid import ScalePlan
from mshisto_ray.tiling.reader import Opened
from mshisto_ray.tiling.resolution import ScaleReading
from mshisto_ray.tiling.thumbnail import Thumbnail


def readings_of(record: dict[str, Any]) -> dict[float, ScaleReading]:
    """How each scale of a planned slide is read, from its ``slides.parquet`` row."""
    readings = (ScaleReading(**item) for item in json.loads(record["resolution"]))
    return {reading.mpp: reading for reading in readings}


def record_of(
    row: CohortSlide,
    opened: Opened,
    mpp: float,
    fingerprint: str,
    thumbnail: Thumbnail,
    tissue: np.ndarray,
    plans: Sequence[ScalePlan],
) -> dict[str, Any]:
    """The row of ``slides.parquet``."""
    slide = opened.slide
    bounds_x, bounds_y = frame_of(slide).origin
    unsound = unsound_levels(slide)
    reason = f"{opened.reason}; {unsound}" if unsound else opened.reason
    chunks = {int(c) for plan in plans for c in np.unique(plan.chunk)}
    pixel_mm2 = (mpp * thumbnail.span / 1000) ** 2
    return {
        "slide_id": row.slide_id,
        "patient_id": row.patient_id,
        "path": str(row.path),
        "width": slide.levels[0].width,
        "height": slide.levels[0].height,
        "bounds_x": bounds_x,
        "bounds_y": bounds_y,
        "mpp": mpp,
        "mpp_source": "file" if row.mpp is None else "cohort",
        "mpp_of_file": slide.mpp,
        "vendor": slide.vendor,
        "objective": slide.objective,
        "reader": opened.reader,
        "reader_reason": reason,
        "fingerprint": fingerprint,
        "tissue_mm2": float(tissue.sum() * pixel_mm2),
        "num_chunks": len(chunks),
        "tiles_per_scale": [[p.reading.mpp, len(p.row)] for p in plans],
        "coverage": [(p.reading.mpp, p.coverage) for p in plans],
        "resolution": json.dumps([asdict(plan.reading) for plan in plans]),
    }


def tables_of(
    row: CohortSlide,
    plans: Sequence[ScalePlan],
    regions: Sequence[Region],
    focus: Sequence[np.ndarray],
) -> list[pa.Table]:
    """One table per chunk, rows sorted by (mpp, row, col)."""
    parts = []
    for plan, scores in zip(plans, focus, strict=True):
        names, covered = annotate(regions, plan.x, plan.y, plan.reading.extent)
        num = len(plan.row)
        columns = {
            "slide_id": pa.array([row.slide_id] * num, pa.string()),
            "mpp": pa.array(np.full(num, plan.reading.mpp)),
            "row": plan.row,
            "col": plan.col,
            "x": plan.x,
            "y": plan.y,
            "extent": pa.array(np.full(num, plan.reading.extent)),
            "tissue": plan.tissue,
            "own": plan.own,
            "chunk": plan.chunk,
            "annotation": pa.array(names, pa.string()),
            "annotated": covered,
            "focus": pa.array(scores, mask=np.isnan(scores)),
        }
        parts.append(pa.table(columns, schema=schema.TILES))
    whole = pa.concat_tables(parts)
    chunk = whole["chunk"].to_numpy()
    return [whole.take(np.flatnonzero(chunk == c)) for c in np.unique(chunk)]
