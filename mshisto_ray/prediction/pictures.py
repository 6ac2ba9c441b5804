"""Pictures of a prediction: heat maps, child maps, and GeoJSON for QuPath."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mshisto_ray.drawing.child_map import CoarseTile, draw_child_maps
from mshisto_ray.drawing.heatmap import ScoredTiles, draw_heatmap
from mshisto_ray.exchange.geojson import write_tiles
from mshisto_ray.mil.head import Head
from mshisto_ray.mil.predict import HeadPrediction
from mshisto_ray.prediction.tile_bag import SlideTiles
from mshisto_ray.slides import (
    Slide,
    Watchdog,
    frame_of,
    plain_reader,
)
from mshisto_ray.store.embeddings import TileEmbeddings
from mshisto_ray.store.errors import UnitError
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.thumbnail import read_thumbnail

_HEAT_MAP_MPP = 8.0
_GONE = "MissingFile"
_CHILD_MAPS = 6
_CHILD_MAP_PX = 256


class Painter:
    """Draws the predictions of a head on the slides of a tiles directory."""

    def __init__(self, tiles: TileDirectory, out: Path):
        self._tiles, self._out = tiles, out
        self.watchdog = Watchdog()

    def draw(
        self,
        head: Head,
        slides: list[SlideTiles],
        prediction: HeadPrediction,
        failures: list[Failure],
    ) -> None:
        """Draw every slide of a bag; add those that cannot be read to ``failures``."""
        (probabilities,) = prediction.probabilities
        shown = head.classes[int(probabilities.argmax())]
        title = f"{shown} p={probabilities.max():.3f}"
        start, starts = 0, [0] * len(prediction.child_attention)
        for part in slides:
            rows = slice(start, start + len(part.tiles.row))
            start = rows.stop
            layers = _layers(head, prediction, rows)
            children = []
            for i, weights in enumerate(prediction.child_attention):
                stop = starts[i] + len(part.finer[i].row)
                children.append(weights[starts[i] : stop])
                starts[i] = stop
            if not layers and not children:
                continue
            try:
                self._draw_slide(part, layers, children, title)
            except Exception as error:  # of any kind: the prediction is kept
                message = f"no heat map, the slide cannot be read: {error}"
                slide_id = part.tiles.slide_id
                # A file that is damaged stays so; one that is not there may come.
                is_damage = isinstance(error, UnitError) and error.name != _GONE
                kind = "input" if is_damage else "transient"
                failures.append(
                    Failure(slide_id, "predict", kind, "NoHeatMap", message)
                )

    def _draw_slide(
        self,
        part: SlideTiles,
        layers: dict[str, np.ndarray],
        children: list[np.ndarray],
        title: str,
    ) -> None:
        tiles = part.tiles
        folder, name = self._out / "heatmaps", tiles.slide_id
        file = file_name(name)
        folder.mkdir(parents=True, exist_ok=True)
        record = self._tiles.slides[name]
        reader = plain_reader(record["reader"])
        slide = self.watchdog.open_slide(Path(record["path"]), reader)
        # From the slide: tables written before it was recorded lack it.
        origin = frame_of(slide).origin
        try:
            if layers:
                place = (tiles.x, tiles.y, tiles.extent)
                path = folder / f"{file}.geojson"
                write_tiles(path, *place, layers, origin=origin)
            thumbnail = read_thumbnail(slide, record["mpp"], _HEAT_MAP_MPP)
            for label, scores in layers.items():
                image = draw_heatmap(
                    thumbnail.pixels,
                    thumbnail.span,
                    ScoredTiles(tiles.x, tiles.y, tiles.extent, scores),
                    f"{name}  {title}",
                    label.replace("_", " ", 1),
                    record["mpp"],
                )
                image.save(folder / f"{file}.{file_name(label)}.png")
            attention = layers.get("attention")
            for fine, scores, image in _child_maps(
                slide, part, children, attention, f"{name} {title}"
            ):
                stem = f"{file}.children_{fine.mpp[0]:g}"
                place = (fine.x, fine.y, fine.extent)
                path = folder / f"{stem}.geojson"
                write_tiles(path, *place, scores, origin=origin)
                image.save(folder / f"{stem}.png")
        finally:
            slide.close()


def _layers(
    head: Head, prediction: HeadPrediction, rows: slice
) -> dict[str, np.ndarray]:
    """Scores of the instances of one slide, by the name of the layer."""
    layers = {}
    if prediction.attention is not None:
        layers["attention"] = prediction.attention[rows]
    if prediction.class_attention is not None:
        for i, name in enumerate(head.classes):
            layers[f"attention_{name}"] = prediction.class_attention[rows, i]
    if prediction.instance_probabilities is not None:
        scores = prediction.instance_probabilities[rows].T
        named = zip(head.classes, scores, strict=True)
        # Of two classes the first is the complement of the second.
        kept = list(named)[1:] if len(scores) == 2 else named
        layers |= {f"instance_{name}": column for name, column in kept}
    return layers


def _child_maps(
    slide: Slide,
    part: SlideTiles,
    child_attention: Sequence[np.ndarray],
    attention: np.ndarray | None,
    title: str,
) -> Iterator[tuple[TileEmbeddings, dict[str, np.ndarray], Image.Image]]:
    """Yield the tiles of each finer scale that has any, their scores, and a picture.

    Scores: ``child_attention``, a tile's share within its parent; ``attention``, that
    share times the parent's attention, also the weight of a tile of a middle scale.
    """
    tiles = part.tiles
    for fine, linked, weights in zip(
        part.finer, part.children, child_attention, strict=True
    ):
        counts, scores = linked.counts, {"child_attention": weights}
        if attention is not None:
            scores["attention"] = attention.repeat(counts) * weights
        if len(weights):
            image = _child_map(slide, tiles, fine, counts, weights, attention, title)
            yield fine, scores, image
        tiles, attention = fine, scores.get("attention")


def _child_map(
    slide: Slide,
    tiles: TileEmbeddings,
    fine: TileEmbeddings,
    counts: np.ndarray,
    weights: np.ndarray,
    attention: np.ndarray | None,
    title: str,
) -> Image.Image:
    """Draw the most relevant tiles with the attention over their finer tiles.

    Those of highest attention; without attention, those whose children differ most.
    """
    starts = np.cumsum(counts) - counts
    spread = np.array(
        [
            np.ptp(weights[a : a + n]) if n else -1.0
            for a, n in zip(starts, counts, strict=True)
        ]
    )
    order = np.argsort(-(spread if attention is None else attention), kind="stable")
    chosen = [i for i in order if counts[i]][:_CHILD_MAPS]
    shown = []
    for i in chosen:
        own = slice(starts[i], starts[i] + counts[i])
        left = (fine.x[own] - tiles.x[i]) / tiles.extent[i]
        top = (fine.y[own] - tiles.y[i]) / tiles.extent[i]
        side = fine.extent[own] / tiles.extent[i]
        boxes = np.stack([left, top, left + side, top + side], 1).clip(0, 1)
        text = f"row {tiles.row[i]}, col {tiles.col[i]}"
        if attention is not None:
            text += f", attention {attention[i]:.3g}"
        pixels = _area(slide, int(tiles.x[i]), int(tiles.y[i]), float(tiles.extent[i]))
        shown.append(CoarseTile(pixels, boxes, weights[own], text))
    return draw_child_maps(shown, f"{title}: attention over finer tiles")


def _area(slide: Slide, x: int, y: int, extent: float) -> np.ndarray:
    """A square of the slide, from the coarsest level with enough pixels."""
    fits = [
        i for i, v in enumerate(slide.levels) if extent / v.downsample >= _CHILD_MAP_PX
    ]
    level = fits[-1] if fits else 0
    side = max(1, round(extent / slide.levels[level].downsample))
    return slide.read(level, x, y, side, side)
