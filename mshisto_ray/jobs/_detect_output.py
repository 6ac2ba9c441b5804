"""The files of ``detect``."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mshisto_ray.drawing.canvas import save_png
from mshisto_ray.evaluation.froc import Froc
from mshisto_ray.evaluation.overlap import dice, iou
from mshisto_ray.exchange.geojson import write_objects
from mshisto_ray.jobs._detect_slide import Detected
from mshisto_ray.reporting.froc_plot import plot_froc
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.manifest import write_text
from mshisto_ray.store.shards import write_shard

METRICS, SLIDES, POINTS, FROC = "metrics.json", "slides.csv", "points.csv", "froc.csv"
_PLOT = "froc.png"
# Of the curve's table: beyond it no one reads on.
_MOST_FALSE = 64.0


def write_slide(
    out: Path, peak_threshold: float, names: Sequence[str], found: Detected
) -> None:
    """Write the map, GeoJSON and pictures of a slide."""
    stem = f"{file_name(found.slide_id)}.{found.mpp:g}"
    scores = found.maps[0].scores
    columns: dict[str, Any] = {
        "slide_id": pa.array([found.slide_id] * len(scores.row), pa.string()),
        "mpp": np.full(len(scores.row), found.mpp),
        "row": scores.row.astype(np.int32),
        "col": scores.col.astype(np.int32),
        "x": np.rint(scores.col * scores.extent).astype(np.int64),
        "y": np.rint(scores.row * scores.extent).astype(np.int64),
        "extent": np.full(len(scores.row), scores.extent),
    }
    for one in found.maps:
        columns[f"prob_{one.name}"] = one.probability.at(scores.row, scores.col)
    write_shard(out / "maps" / f"{stem}.parquet", [pa.table(columns)])
    objects = [o for one in found.maps for o in one.objects(peak_threshold)]
    write_objects(out / "geojson" / f"{stem}.geojson", objects, names, found.origin)
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    for name, picture in found.pictures.items():
        save_png(picture, folder / f"{stem}.{file_name(name)}.png")


def write_tables(out: Path, peak_threshold: float, found: Sequence[Detected]) -> None:
    """Write ``slides.csv``, a row a slide and class, and ``points.csv``."""
    _write(
        out / SLIDES, [row for one in found for row in _slide_rows(peak_threshold, one)]
    )
    rows = [row for one in found for row in _point_rows(peak_threshold, one)]
    names = ("slide_id", "mpp", "class", "x", "y", "probability", "finds")
    _write(out / POINTS, rows, names)


def write_metrics(out: Path, metrics: Mapping[str, Mapping[str, Interval]]) -> None:
    """Write ``metrics.json``: of each class; null where a number is not defined."""
    known = {
        name: {key: _finite(asdict(value)) for key, value in own.items()}
        for name, own in metrics.items()
    }
    write_text(out / METRICS, json.dumps(known, indent=2) + "\n")


def write_curves(
    out: Path, names: Sequence[str], found: Sequence[Detected]
) -> list[Path]:
    """Write ``froc.csv`` and ``froc.png`` where lesions or points are known."""
    curves, rows = {}, []
    for name in names:
        hits = [
            m.hits for one in found for m in one.measures if m.name == name and m.hits
        ]
        if not sum(one.num_targets for one in hits):
            continue
        froc = curves[name] = Froc(hits)
        for threshold, *values in zip(froc.thresholds, *froc.curve(), strict=True):
            if values[1] <= _MOST_FALSE:
                keys = ("sensitivity", "fp_per_slide", "fp_per_mm2")
                numbers = dict(zip(keys, map(_shown, values), strict=True))
                rows.append({"class": name, "threshold": _shown(threshold)} | numbers)
    if not curves:
        return []
    _write(out / FROC, rows)
    plot_froc(out / _PLOT, curves)
    return [out / FROC, out / _PLOT]


def _slide_rows(peak_threshold: float, found: Detected) -> Iterable[dict[str, Any]]:
    for measure, one in zip(found.measures, found.maps, strict=True):
        area = measure.area or (math.nan,) * 3
        row: dict[str, Any] = {
            "slide_id": found.slide_id,
            "patient_id": measure.patient_id,
            "mpp": f"{found.mpp:g}",
            "class": measure.name,
            "mapped_mm2": _shown(measure.mapped_mm2),
            "regions": len(one.regions),
            "found_mm2": _shown(measure.found_mm2),
            "annotated_mm2": _shown(area[1]),
            "both_mm2": _shown(area[2]),
            "dice": _shown(dice(*area)),
            "iou": _shown(iou(*area)),
            "points": len(one.peaks.least(peak_threshold)),
        }
        counts: tuple[Any, Any] = ("", "")
        if measure.hits:
            counts = measure.hits.counts(peak_threshold)
        targets = measure.hits.num_targets if measure.hits else ""
        yield row | {"targets": targets, "targets_found": counts[0],
                     "false_points": counts[1]}  # fmt: skip


def _point_rows(peak_threshold: float, found: Detected) -> Iterable[dict[str, Any]]:
    for one, target in zip(found.maps, found.targets, strict=True):
        shown = len(one.peaks.least(peak_threshold))
        for i in range(shown):
            finds = "" if target is None or target[i] < 0 else int(target[i])
            yield {
                "slide_id": found.slide_id,
                "mpp": f"{found.mpp:g}",
                "class": one.name,
                "x": f"{one.peaks.x[i]:.1f}",
                "y": f"{one.peaks.y[i]:.1f}",
                "probability": _shown(one.peaks.scores[i]),
                "finds": finds,
            }


def _write(
    path: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()
) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _shown(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {k: v if math.isfinite(v) else None for k, v in values.items()}
