"""How well a head's tile scores agree with annotated tiles."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mshisto_ray.statistics.bootstrap import ClusterDraws, Interval, percentile_interval
from mshisto_ray.statistics.rank_metrics import rank_metrics
from mshisto_ray.store.same_place import Corners, are_same, check_places
from mshisto_ray.store.shards import match_tiles
from mshisto_ray.store.tiles import TileDirectory

Scores = dict[str, dict[str, float]]


def localise(
    shards: Iterable[Path], tiles: TileDirectory, name: str, positive: str | None
) -> Scores:
    """AUROC of a prediction's scores against annotated tiles, slide by slide.

    Within one slide, so that it measures where the model attends, not which slide it
    calls positive; slides with tiles of one kind only have no value. A tile counts as
    annotated if it holds any of the outlined area, which can be small. Values by
    name, which ends in their scale in micrometres per pixel:

    ``attention_auroc_<mpp>``: attention of the instances; at a finer scale that of
    the parent times the tile's share of it. ``class_attention_auroc_<mpp>``,
    ``instance_auroc_<mpp>``: attention and instance probability of class
    ``positive``. ``child_attention_auroc_<mpp>``: attention of a parent's children
    against which of them are annotated, mean over the parents that hold both kinds.

    Args:
        shards: tile scores of one bag each, as written by mshisto predict.
        tiles: the same tiles with their annotations.
        name: annotation class of the positive tiles.
        positive: class of the head that such tiles are evidence for; None: none.

    Returns:
        {name of a value: {slide_id: AUROC}}.

    Raises:
        InputError: imported features, most of whose tiles lie elsewhere.
    """
    found: Scores = {}
    for path in shards:
        scores = pq.read_table(path)
        for slide_id in scores["slide_id"].unique().to_pylist():
            part = _where(scores, "slide_id", slide_id)
            _check_places(part, tiles, slide_id, path.parent)
            truth = annotated(tiles, slide_id, _identity(part), name)
            for key, value in _measure(part, truth, positive).items():
                found.setdefault(key, {})[slide_id] = value
    return found


def _check_places(
    part: pa.Table, tiles: TileDirectory, slide_id: str, folder: Path
) -> None:
    if slide_id not in tiles.slides:
        return
    planned = tiles.read(slide_id)
    at = _match(_identity(part), _identity(planned))
    held = np.flatnonzero(at >= 0)
    ours, theirs = (
        Corners(*(table[name].to_numpy()[rows] for name in ("x", "y", "extent")))
        for table, rows in ((planned, at[held]), (part, held))
    )
    fits = are_same(theirs, ours)
    check_places("tiles", (tiles.path, folder), (ours, theirs), fits)


def summarise(found: Scores, patients: Mapping[str, str]) -> dict[str, Interval]:
    """Mean over slides of each value, with its 95 % patient-bootstrap interval."""
    result = {}
    for name, per_slide in found.items():
        draws = ClusterDraws(np.array([patients[slide] for slide in per_slide]))
        values = np.array(list(per_slide.values()))
        means = draws.means(values[:, None])[:, 0]
        result[name] = percentile_interval(float(values.mean()), means)
    return result


def annotation_names(tiles: TileDirectory, slide_ids: Iterable[str]) -> list[str]:
    """Annotation classes that occur on these slides, sorted."""
    found: set[str] = set()
    for slide_id in slide_ids:
        if slide_id in tiles.slides:
            found |= set(tiles.read(slide_id)["annotation"].unique().to_pylist())
    return sorted(name for name in found if name is not None)


def annotated(
    tiles: TileDirectory,
    slide_id: str,
    identity: list[np.ndarray],
    name: str,
    min_annotated: float = 0.0,
) -> np.ndarray:
    """Whether tiles (mpp, row, col) of a slide carry an annotation, bool [N].

    False for all tiles of a slide that is not in the directory. A tile carries the
    annotation if this covers any of it and at least the share ``min_annotated``.
    """
    if slide_id not in tiles.slides:
        return np.zeros(len(identity[0]), bool)
    marked = _where(tiles.read(slide_id), "annotation", name)
    enough = marked["annotated"].to_numpy() >= min_annotated
    marked = marked.filter(pa.array(enough))
    return _match(identity, _identity(marked)) >= 0


def _where(table: pa.Table, column: str, value: str) -> pa.Table:
    return table.filter(pc.call_function("equal", [table[column], pa.scalar(value)]))


def _match(left: list[np.ndarray], right: list[np.ndarray]) -> np.ndarray:
    """``match_tiles`` within one slide."""
    return match_tiles(
        [np.zeros(len(left[0])), *left], [np.zeros(len(right[0])), *right]
    )


def _identity(table: pa.Table) -> list[np.ndarray]:
    return [table[name].to_numpy() for name in ("mpp", "row", "col")]


def _measure(
    part: pa.Table, truth: np.ndarray, positive: str | None
) -> dict[str, float]:
    """Every value of one slide that is defined, by name."""
    mpp, row, col = _identity(part)
    scales = sorted(set(mpp.tolist()), reverse=True)
    at = mpp == scales[0]
    columns = {"attention": "attention"}
    if positive is not None:
        columns["class_attention"] = f"attention_{positive}"
        columns["instance"] = f"instance_{positive}"
    found = {
        f"{name}_auroc_{scales[0]:g}": _area(_column(part, column)[at], truth[at])
        for name, column in columns.items()
    }
    weights, children = _column(part, "attention"), _column(part, "child_attention")
    for coarse, fine in itertools.pairwise(scales):
        k = round(coarse / fine)
        own, above = np.flatnonzero(mpp == fine), np.flatnonzero(mpp == coarse)
        wanted = [np.full(len(own), coarse), row[own] // k, col[own] // k]
        parent = above[_match(wanted, [mpp[above], row[above], col[above]])]
        weights[own] = weights[parent] * children[own]
        found[f"attention_auroc_{fine:g}"] = _area(weights[own], truth[own])
        each = _within(parent, children[own], truth[own])
        found[f"child_attention_auroc_{fine:g}"] = each
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _column(part: pa.Table, name: str) -> np.ndarray:
    """A score of the tiles; NaN if the table lacks it."""
    if name not in part.column_names:
        return np.full(len(part), np.nan)
    return part[name].to_numpy().astype(float)  # a copy, which may be written to


def _within(parent: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean AUROC over the parents with children of both kinds; else NaN."""
    order = np.argsort(parent, kind="stable")
    starts = np.flatnonzero(np.diff(parent[order])) + 1
    areas = [_area(scores[rows], truth[rows]) for rows in np.split(order, starts)]
    known = [area for area in areas if np.isfinite(area)]
    return float(np.mean(known)) if known else np.nan


def _area(scores: np.ndarray, truth: np.ndarray) -> float:
    """AUROC; NaN where there is no score, or truth of one kind alone."""
    if np.isnan(scores).any() or not 0 < truth.sum() < len(truth):
        return np.nan
    return float(rank_metrics(scores, truth, np.ones((1, len(truth))))["auroc"][0])
