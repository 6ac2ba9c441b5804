"""The metrics over a training, ``metrics.jsonl``: a JSON object per validation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mshisto_ray.store.manifest import write_text

METRICS = "metrics.jsonl"


def write_curve(path: Path, records: Sequence[Mapping[str, float]]) -> None:
    """Write all records atomically; JSON has no NaN, so it becomes null."""
    lines = [
        json.dumps({k: v if math.isfinite(v) else None for k, v in record.items()})
        for record in records
    ]
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_curve(path: Path) -> list[dict[str, float]]:
    """Read the records of ``write_curve``; null becomes NaN."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {k: math.nan if v is None else float(v) for k, v in record.items()}
        for record in records
    ]
