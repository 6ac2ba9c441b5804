"""Predict one bag in a worker: probabilities, its tiles' scores, its heat maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mshisto_ray.mil.bags import Bags
from mshisto_ray.mil.head import Head, load_head
from mshisto_ray.mil.predict import HeadPrediction, predict
from mshisto_ray.reporting.heatmap import draw_heatmap
from mshisto_ray.slides._open import Watchdog
from mshisto_ray.slides._slide import SlideError
from mshisto_ray.store.embeddings import EmbeddingDirectory, TileEmbeddings
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.thumbnail import read_thumbnail

_HEAT_MAP_MPP = 8.0


@dataclass(frozen=True)
class Bag:
    """The slides of one prediction."""

    name: str
    patient_id: str
    slide_ids: list[str]

    @property
    def slide_id(self) -> str | None:
        """The slide, where the bag is one slide."""
        return self.slide_ids[0] if self.slide_ids == [self.name] else None


@dataclass(frozen=True)
class PredictWork:
    """What every unit shares."""

    head: Path
    embeddings: Path
    tiles: Path | None
    out: Path


def make_predictor(
    work: PredictWork, threads: int
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that predicts one bag; its shard and pictures are its result."""
    torch.set_num_threads(threads)
    head = load_head(work.head)
    embeddings = EmbeddingDirectory(work.embeddings)
    tiles = TileDirectory(work.tiles) if work.tiles else None
    watchdog = Watchdog()

    def predict_bag(unit: dict[str, Any]) -> dict[str, Any]:
        bag = Bag(**unit)
        failures: list[Failure] = []
        parts = _read(head, embeddings, bag, failures)
        prediction, tables = None, [_scores([], None, head)]
        if parts:
            bags = _as_bags(bag, parts, head)
            prediction = predict(head, bags, torch.device("cpu"))
            tables = [_scores(parts, prediction, head)]
            if tiles:
                _draw(work.out, tiles, watchdog, parts, prediction, head, failures)
        metadata = {
            "slide_ids": bag.slide_ids,
            "probabilities": prediction.probabilities[0].tolist()
            if prediction
            else None,
            "failures": [asdict(failure) for failure in failures],
        }
        write_shard(work.out / "shards" / f"{bag.name}.parquet", tables, metadata)
        num = sum(table.num_rows for table in tables)
        return {"slide_id": bag.name, "tiles": num, "failures": len(failures)}

    return predict_bag


def _read(
    head: Head, embeddings: EmbeddingDirectory, bag: Bag, failures: list[Failure]
) -> list[TileEmbeddings]:
    """Own tiles of each slide at the head's scale; what is missing is told."""
    parts = []
    for slide_id in bag.slide_ids:
        reason = "no complete embeddings: run jobs/tile.py and jobs/embed.py on it"
        if slide_id in embeddings.patient_ids:
            assert head.scale is not None
            part = embeddings.read(slide_id, head.scale)
            if len(part.row):
                parts.append(part)
                continue
            reason = f"no tile with enough tissue at {head.scale:g} um/px"
        failures.append(Failure(slide_id, "predict", "input", "NoTiles", reason))
    return parts


def _as_bags(bag: Bag, parts: list[TileEmbeddings], head: Head) -> Bags:
    """The bag alone, in memory, as the head takes it."""
    sizes = np.array([len(part.row) for part in parts], np.int64)
    offsets = np.concatenate([[0], sizes.cumsum()])
    values = np.concatenate([part.values for part in parts])
    slide_ids = tuple(part.slide_id for part in parts)
    return Bags(
        features=ArrayFeatures(slide_ids, values, offsets),
        names=(bag.name,),
        members=(tuple(range(len(parts))),),
        slide_ids=(bag.slide_id,),
        patient_ids=(bag.patient_id,),
        targets=None,
        classes=head.classes,
        folds=None,
        sizes=sizes.sum(keepdims=True),
        digest="",
        encoder=head.encoder,
        scale=head.scale,
        notes=(),
    )


def _scores(
    parts: list[TileEmbeddings], prediction: HeadPrediction | None, head: Head
) -> pa.Table:
    """Tile identity, place, attention and instance probabilities; null if none."""
    num = sum(len(part.row) for part in parts)
    names = [part.slide_id for part in parts for _ in part.row]
    columns: dict[str, Any] = {"slide_id": pa.array(names, pa.string())}
    kinds = {
        "mpp": "f8",
        "row": "i4",
        "col": "i4",
        "x": "i8",
        "y": "i8",
        "extent": "f8",
    }
    for name, kind in kinds.items():
        arrays = [getattr(part, name) for part in parts]
        columns[name] = np.concatenate([np.zeros(0, kind), *arrays]).astype(kind)
    attention = prediction.attention if prediction else None
    columns["attention"] = (
        pa.nulls(num, pa.float64()) if attention is None else attention.astype("f8")
    )
    scores = prediction.instance_probabilities if prediction else None
    for index, name in enumerate(head.classes):
        columns[f"instance_{name}"] = (
            pa.nulls(num, pa.float64())
            if scores is None
            else scores[:, index].astype("f8")
        )
    return pa.table(columns)


def _draw(
    out: Path,
    tiles: TileDirectory,
    watchdog: Watchdog,
    parts: list[TileEmbeddings],
    prediction: HeadPrediction,
    head: Head,
    failures: list[Failure],
) -> None:
    """Heat maps of every slide of the bag; a slide out of reach is told, not fatal."""
    start = 0
    (probabilities,) = prediction.probabilities
    shown = head.classes[int(probabilities.argmax())]
    title = f"{shown} p={probabilities.max():.3f}"
    for part in parts:
        rows = slice(start, start + len(part.row))
        start = rows.stop
        layers = {}
        if prediction.attention is not None:
            layers["attention"] = prediction.attention[rows]
        if prediction.instance_probabilities is not None:
            layers["instance"] = prediction.instance_probabilities[rows, -1]
        if not layers:
            continue
        try:
            record = tiles.slides[part.slide_id]
            slide = watchdog.open_slide(Path(record["path"]))
            thumbnail = read_thumbnail(slide, record["mpp"], _HEAT_MAP_MPP)
            slide.close()
        except (KeyError, OSError, SlideError) as error:
            message = f"no heat map, the slide cannot be read: {error}"
            failures.append(
                Failure(part.slide_id, "predict", "transient", "NoHeatMap", message)
            )
            continue
        for label, scores in layers.items():
            image = draw_heatmap(
                thumbnail.pixels, thumbnail.span, part.x, part.y, part.extent, scores,
                f"{part.slide_id}  {title}", label, record["mpp"],
            )  # fmt: skip
            path = out / "heatmaps" / f"{part.slide_id}.{label}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
