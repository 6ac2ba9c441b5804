"""Near and far thresholds of a cohort, compared by the appearance of tiles."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.contrastive.threshold_search import (
    ThresholdResult,
    best_thresholds,
    search_thresholds,
)
from mshisto_ray.contrastive.verification import describe
from mshisto_ray.evaluation.tile_set import check_same_tiles
from mshisto_ray.runtime import Readers
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.manifest import write_text
from mshisto_ray.store.shards import match_tiles
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.reading import IndexedTileReader, check_slides
from mshisto_ray.training.tile_index import TileIndex, read_index

FILE = "thresholds.csv"
_AT_ONCE = 512
Micrometres = Annotated[float, Field(gt=0)]
Describe = Callable[[np.ndarray], np.ndarray]


class ThresholdsConfig(Config):
    """Compare thresholds of near and far for spatial pairs."""

    tiles: InputPath = option(text="tiles directory")
    out: OutputPath = option(text=f"folder of {FILE}")
    embeddings: InputPath | None = option(
        None,
        "of the tiles, to compare appearance; null: colours, read from the slides",
    )
    scale: float | None = option(
        None, "of the tiles; null: the finest", unit="um/px", gt=0
    )
    near_um: tuple[Micrometres, ...] = option(
        (100.0, 200.0, 300.0, 500.0, 1000.0, 1742.0), "candidates", "um", min_length=1
    )
    far_um: tuple[Micrometres, ...] = option(
        (1000.0, 1500.0, 3000.0, 6000.0, 9145.0), "candidates", "um", min_length=1
    )
    pairs: int = option(2000, "drawn for each near_um and far_um", "pairs", ge=100)
    least_covered: float = option(
        0.9, "share of tiles that must have partners", ge=0, le=1
    )
    seed: int = option(0, "of the draw", ge=0)
    runtime: Readers = Readers()


def check(config: ThresholdsConfig) -> None:
    """Check tiles, slides or embeddings, the scale and the candidates."""
    _open(config)
    if min(config.near_um) >= max(config.far_um):
        raise InputError(
            f"far_um: the largest is {max(config.far_um):g} um, the smallest near_um "
            f"{min(config.near_um):g} um: far has to be above near"
        )


def run(config: ThresholdsConfig) -> None:
    """Compare thresholds of near and far for spatial pairs."""
    index, describe_tiles = _open(config)
    results = search_thresholds(
        index, describe_tiles, config.near_um, config.far_um, config.pairs, config.seed
    )
    config.out.mkdir(parents=True, exist_ok=True)
    _write(config, results)
    print(_table(results))
    best = best_thresholds(results, config.least_covered)
    if best is None:
        print(
            f"thresholds: none finds partners for {config.least_covered:.0%} of the "
            "tiles: raise near_um, lower far_um, or lower least_covered"
        )
    else:
        print(f"thresholds: near_um={best.near_um:g} far_um={best.far_um:g}")
        for line in _remarks(config, results, best):
            print(f"thresholds: {line}")
    print(f"thresholds: {config.out / FILE}")


def _remarks(
    config: ThresholdsConfig, results: Sequence[ThresholdResult], best: ThresholdResult
) -> list[str]:
    """Why these thresholds, and what the candidates cannot show."""
    lines = []
    if len(best.replicates):
        top = max((r for r in results if r.auc == r.auc), key=lambda r: r.auc)
        lines.append(
            "the largest near_um, then the smallest far_um, whose AUC cannot be told "
            f"apart from the highest that covers enough tiles (highest: {top.auc:.3f})"
        )
    else:
        lines.append("too few slides for intervals: these are those of the highest AUC")
    if best.near_um == min(config.near_um) and len(config.near_um) > 1:
        lines.append("near_um is the smallest candidate: try smaller ones")
    if best.far_um == max(config.far_um) and len(config.far_um) > 1:
        lines.append("far_um is the largest candidate: try larger ones")
    return lines


def _open(config: ThresholdsConfig) -> tuple[TileIndex, Describe]:
    """The tiles of the scale, and the function that describes their appearance."""
    tiles = TileDirectory(config.tiles)
    scale = tiles.choose_scale(config.scale)
    if config.embeddings is None:
        check_slides(tiles)
        index = _index(tiles, list(tiles.slides), scale)
        reader = IndexedTileReader(tiles, index, config.runtime.readers)
        return index, lambda chosen: _colours(reader, chosen)
    embeddings = EmbeddingDirectory(config.embeddings)
    check_same_tiles(tiles, {"embeddings": embeddings})
    held = [slide for slide in tiles.slides if slide in embeddings.fingerprints]
    if len(held) < len(tiles.slides):
        left_out = len(tiles.slides) - len(held)
        print(f"thresholds: {left_out} slides left out: not (wholly) embedded")
    index = _index(tiles, held, scale)
    return index, lambda chosen: _embeddings(index, embeddings, chosen)


def _index(tiles: TileDirectory, slides: list[str], scale: float) -> TileIndex:
    index = read_index(tiles, slides, {}, (scale,))
    if not len(index):
        raise InputError(f"scale: no slide has a tile at {scale:g} um/px")
    return index


def _colours(reader: IndexedTileReader, chosen: np.ndarray) -> np.ndarray:
    """Colours of tiles (sorted), [N, 6]; NaN where they cannot be read."""
    # Few at a time: those of all candidates are gigabytes of pixels.
    parts = np.split(chosen, np.arange(_AT_ONCE, len(chosen), _AT_ONCE))
    found = []
    for part in parts:
        held = reader(part, of=len(chosen))
        found.append(np.where(held.readable[:, None], describe(held.pixels), np.nan))
    return np.concatenate(found)


def _embeddings(
    index: TileIndex, embeddings: EmbeddingDirectory, chosen: np.ndarray
) -> np.ndarray:
    """Embeddings of tiles (sorted), [N, D], of length 1; NaN where they failed."""
    found = np.full((len(chosen), embeddings.dim), np.nan, np.float32)
    slide = index.slide(chosen)
    for number in np.unique(slide):
        at = np.flatnonzero(slide == number)
        part = embeddings.read(index.slide_ids[number], index.scales[0], own_only=False)
        wanted = np.zeros(len(at)), index.row(chosen[at]), index.col(chosen[at])
        if not len(part.row):
            continue
        place = match_tiles(wanted, (np.zeros(len(part.row)), part.row, part.col))
        values = part.values[place].astype(np.float32)
        length = np.linalg.norm(values, axis=1, keepdims=True)
        unit = values / np.maximum(length, 1e-12)
        found[at] = np.where(place[:, None] < 0, np.nan, unit)
    return found


def _write(config: ThresholdsConfig, results: Sequence[ThresholdResult]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["near_um", "far_um", "auc", "covered", "auc_low", "auc_high"])
    writer.writerows(
        [r.near_um, r.far_um, r.auc, r.covered, r.interval.low, r.interval.high]
        for r in results
    )
    write_text(config.out / FILE, text.getvalue())


def _table(results: Sequence[ThresholdResult]) -> str:
    lines = [
        "| near um | far um | AUC (95 % interval) | tiles with partners |",
        "|---|---|---|---|",
    ]
    for r in sorted(results, key=lambda r: -r.auc if r.auc == r.auc else 1):
        ends = f"({r.interval.low:.3f} to {r.interval.high:.3f})"
        shown = f"{r.auc:.3f} {ends}" if len(r.replicates) else f"{r.auc:.3f}"
        cells = f"{r.near_um:g} | {r.far_um:g} | {shown} | {r.covered:.1%}"
        lines.append(f"| {cells} |")
    return "\n".join(lines)
