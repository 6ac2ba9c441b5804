"""Pictures of a prediction: heat maps, galleries, child maps; GeoJSON for QuPath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mshisto_ray.drawing.canvas import save_png
from mshisto_ray.drawing.gallery import A_ROW, ShownTile, draw_gallery
from mshisto_ray.drawing.heatmap import Caption, ScoredTiles, draw_heatmap
from mshisto_ray.drawing.outlines import Outline
from mshisto_ray.exchange.geojson import write_tiles
from mshisto_ray.mil.head import Head
from mshisto_ray.mil.predict import HeadPrediction
from mshisto_ray.prediction.child_maps import child_maps, read_area
from mshisto_ray.prediction.layers import Layer, layers_of
from mshisto_ray.prediction.tile_bag import SlideTiles
from mshisto_ray.slides import Slide, Watchdog, frame_of, plain_reader
from mshisto_ray.store.embeddings import TileEmbeddings
from mshisto_ray.store.errors import UnitError
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.annotation import AnnotationError, outlines_of, read_annotation
from mshisto_ray.tiling.thumbnail import Thumbnail, read_thumbnail

_HEAT_MAP_MPP = 8.0
_GONE = "MissingFile"


@dataclass(frozen=True)
class Truth:
    """``label`` of a slide's bag and its ``annotation`` file; None: unknown."""

    label: str | None = None
    annotation: Path | None = None


@dataclass(frozen=True)
class _Drawing:
    """A slide that is being drawn."""

    slide: Slide
    tiles: TileEmbeddings
    mpp: float
    title: str
    stem: Path
    outlines: Sequence[Outline]


class Painter:
    """Draws the predictions of a head on the slides of a tiles directory.

    Args:
        tiles: of the slides.
        out: directory of the predictions.
        truth: of each slide, by slide_id.
        watchdog: of what is read of slides.
    """

    def __init__(
        self,
        tiles: TileDirectory,
        out: Path,
        truth: Mapping[str, Truth],
        watchdog: Watchdog,
    ):
        self._tiles, self._out, self._truth = tiles, out, truth
        self._watchdog = watchdog

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
        title = f"predicted {shown}, p={probabilities.max():.3f}"
        start, starts = 0, [0] * len(prediction.child_attention)
        for part in slides:
            rows = slice(start, start + len(part.tiles.row))
            start = rows.stop
            layers = layers_of(head, prediction, rows)
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
        layers: Sequence[Layer],
        children: list[np.ndarray],
        title: str,
    ) -> None:
        folder, name = self._out / "heatmaps", part.tiles.slide_id
        folder.mkdir(parents=True, exist_ok=True)
        record = self._tiles.slides[name]
        truth = self._truth.get(name, Truth())
        known = f", label {truth.label}" if truth.label is not None else ""
        reader = plain_reader(record["reader"])
        slide = self._watchdog.open_slide(Path(record["path"]), reader)
        try:
            drawing = _Drawing(
                slide,
                part.tiles,
                record["mpp"],
                f"{name}  {title}{known}",
                folder / file_name(name),
                _outlines(slide, truth.annotation),
            )
            if layers:
                _draw_layers(drawing, layers)
            _draw_children(drawing, part, layers, children)
        finally:
            slide.close()


def _outlines(slide: Slide, path: Path | None) -> list[Outline]:
    """Of an annotation; none where it cannot be used, as tiling has recorded."""
    try:
        return outlines_of(read_annotation(path, frame_of(slide))) if path else []
    except (AnnotationError, OSError):
        return []


def _draw_layers(drawing: _Drawing, layers: Sequence[Layer]) -> None:
    """A heat map of each layer, the tiles of the first, and GeoJSON of all."""
    tiles, stem = drawing.tiles, drawing.stem
    scores = {layer.name: layer.scores for layer in layers}
    # From the slide: tables written before it was recorded lack it.
    origin = frame_of(drawing.slide).origin
    place = (tiles.x, tiles.y, tiles.extent)
    write_tiles(stem.with_name(f"{stem.name}.geojson"), *place, scores, origin=origin)
    thumbnail = read_thumbnail(drawing.slide, drawing.mpp, _HEAT_MAP_MPP)
    for layer in layers:
        image = draw_heatmap(
            thumbnail.pixels,
            thumbnail.span,
            ScoredTiles(*place, layer.scores, layer.spread),
            Caption(drawing.title, layer.label, layer.meaning),
            drawing.mpp,
            drawing.outlines,
        )
        save_png(image, stem.with_name(f"{stem.name}.{file_name(layer.name)}.png"))
    _draw_gallery(drawing, thumbnail, layers[0])


def _draw_gallery(drawing: _Drawing, thumbnail: Thumbnail, layer: Layer) -> None:
    order = np.argsort(-layer.scores, kind="stable")
    num = min(A_ROW, len(order) // 2)  # no tile is in both rows

    def shown(index: int) -> ShownTile:
        tiles = drawing.tiles
        x, y, extent = int(tiles.x[index]), int(tiles.y[index]), tiles.extent[index]
        pixels = read_area(drawing.slide, x, y, float(extent))
        name = f"row {tiles.row[index]}, col {tiles.col[index]}"
        score = float(layer.scores[index])
        return ShownTile(pixels, x, y, float(extent), score, name)

    highest = [shown(i) for i in order[: max(num, 1)]]
    lowest = [shown(i) for i in order[::-1][:num]]
    title = f"{drawing.title}; tiles by {layer.label}"
    image = draw_gallery(thumbnail.pixels, thumbnail.span, highest, lowest, title)
    save_png(image, drawing.stem.with_name(f"{drawing.stem.name}.tiles.png"))


def _draw_children(
    drawing: _Drawing,
    part: SlideTiles,
    layers: Sequence[Layer],
    children: Sequence[np.ndarray],
) -> None:
    """The attention within coarse tiles, at every finer scale, as picture and GeoJSON.

    Coarse tiles are chosen by the attention over them, where the head has one.
    """
    found = [layer.scores for layer in layers if layer.name == "attention"]
    attention = found[0] if found else None
    origin = frame_of(drawing.slide).origin
    for fine, scores, image in child_maps(
        drawing.slide, part, children, attention, drawing.title
    ):
        stem = f"{drawing.stem.name}.children_{fine.mpp[0]:g}"
        place = (fine.x, fine.y, fine.extent)
        path = drawing.stem.with_name(f"{stem}.geojson")
        write_tiles(path, *place, scores, origin=origin)
        save_png(image, drawing.stem.with_name(f"{stem}.png"))
