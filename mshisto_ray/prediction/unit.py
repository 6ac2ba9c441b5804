"""Predict one bag in a worker: probabilities, its tiles' scores, its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from mshisto_ray.mil.head import Head
from mshisto_ray.mil.loading import open_head
from mshisto_ray.mil.predict import HeadPrediction, predict
from mshisto_ray.prediction.pictures import Painter, Truth
from mshisto_ray.prediction.tile_bag import SlideTiles, as_bags, in_colours, read_slide
from mshisto_ray.prediction.tile_decisions import tile_decisions
from mshisto_ray.slides import Watchdog
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.errors import UnitError
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.guard import Guard, count_row, guarded
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.tiles import TileDirectory

# Plain: without pictures, in case it is their drawing that ends the process.
_PLAIN_ATTEMPT, _LAST_ATTEMPT = 3, 5
_IDENTITY = {
    "mpp": "f8",
    "row": "i4",
    "col": "i4",
    "x": "i8",
    "y": "i8",
    "extent": "f8",
}


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

    def as_unit(self) -> dict[str, Any]:
        """The bag as JSON values for a worker; progress is counted by ``slide_id``."""
        rest = {"patient_id": self.patient_id, "slide_ids": self.slide_ids}
        return {"slide_id": self.name, **rest}

    @classmethod
    def from_unit(cls, unit: Mapping[str, Any]) -> Bag:
        """The inverse of ``as_unit``."""
        return cls(unit["slide_id"], unit["patient_id"], unit["slide_ids"])


@dataclass(frozen=True)
class PredictWork:
    """The inputs of all units.

    ``embeddings``: one directory per scale of the head; ``truth``: what the cohort
    knows of each slide, by slide_id, for the pictures.
    """

    head: Path
    embeddings: tuple[Path, ...]
    tiles: Path | None
    out: Path
    truth: Mapping[str, Truth] = field(default_factory=dict)


def shard_path(out: Path, bag: str) -> Path:
    """The file with the scores of a bag's tiles."""
    return out / "shards" / f"{file_name(bag)}.parquet"


def make_predictor(
    work: PredictWork,
    threads: int,
    open_directory: Callable[[Path], EmbeddingDirectory] = EmbeddingDirectory,
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that predicts one bag and writes its shard and pictures."""
    torch.set_num_threads(threads)
    head = open_head(work.head)
    directories = in_colours(head, [open_directory(path) for path in work.embeddings])
    watchdog, painter = Watchdog(), None
    if work.tiles:
        painter = Painter(TileDirectory(work.tiles), work.out, work.truth, watchdog)

    def make(bag: Bag, attempt: int, attempts: Attempts) -> _Made:
        _check_attempt(bag, attempt, attempts)
        failures: list[Failure] = []
        slides = _read(head, directories, bag, failures, watchdog)
        prediction = None
        if slides:
            bags = as_bags(head, bag.name, bag.patient_id, slides)
            prediction = predict(head, bags, torch.device("cpu"))
            if painter and attempt < _PLAIN_ATTEMPT:
                painter.draw(head, slides, prediction, failures)
            elif painter:
                failures.append(_not_drawn(bag, attempt, attempts.hangs()))
        table = _scores(slides, prediction, head)
        return _Made(table, prediction, failures, _mean_embedding(head, slides))

    def predict_bag(unit: dict[str, Any]) -> dict[str, Any]:
        bag = Bag.from_unit(unit)
        attempts = Attempts(work.out, bag.name)
        attempt = attempts.begin()
        watchdog.before_end = attempts.record_hang
        made = Guard("predict", bag.name).make(lambda: make(bag, attempt, attempts))
        if isinstance(made, Failure):
            made = _Made(_scores([], None, head), None, [made])
        metadata = {"made_from": made_from(directories, bag)} | _metadata(made)
        with watchdog.watching():
            write_shard(shard_path(work.out, bag.name), [made.table], metadata)
        attempts.end()
        return count_row(bag.name, made.table.num_rows, made.failures)

    return guarded(predict_bag, "predict")


class _Made(NamedTuple):
    table: pa.Table
    prediction: HeadPrediction | None
    failures: list[Failure]
    embedding: np.ndarray | None = None


def _metadata(made: _Made) -> dict[str, Any]:
    """What a shard holds of its bag as a whole, as JSON values."""
    found = made.prediction
    metadata: dict[str, Any] = {
        "probabilities": found.probabilities[0].tolist() if found else None,
        "failures": [asdict(failure) for failure in made.failures],
    }
    if found and found.calibrated is not None:
        metadata["calibrated"] = found.calibrated[0].tolist()
    if made.embedding is not None:
        metadata["embedding"] = made.embedding.tolist()
    return metadata


def _mean_embedding(head: Head, slides: Sequence[SlideTiles]) -> np.ndarray | None:
    """Mean over slides of their mean embeddings, for the drift test."""
    if not slides or head.decision is None or head.decision.reference is None:
        return None
    return np.mean([s.tiles.values.mean(0, dtype=np.float64) for s in slides], axis=0)


def _check_attempt(bag: Bag, attempt: int, attempts: Attempts) -> None:
    """Raise UnitError where the process ended, or hung, without drawing too."""
    if attempt < _LAST_ATTEMPT:
        return
    attempts.check_hangs()
    raise UnitError(
        "Crash",
        f"predicting {bag.name} ended the process {attempt - 1} times: see the "
        "worker's log (out of memory?)",
    )


def _not_drawn(bag: Bag, attempt: int, hangs: int) -> Failure:
    if hangs:
        message = (
            f"no heat map: reading its slide did not end {hangs} times: retried by the "
            "next run; where many slides do so, look at the storage"
        )
        return Failure(bag.name, "predict", "hung", "NoHeatMap", message)
    message = (
        f"no heat map: the process ended {attempt - 1} times at this bag, by reading "
        "its slide or for lack of memory: see the worker's log"
    )
    return Failure(bag.name, "predict", "crash", "NoHeatMap", message)


def made_from(directories: Sequence[EmbeddingDirectory], bag: Bag) -> list[str]:
    """The inputs that a bag's shard must match to be kept."""
    return [
        directory.state(slide_id) or f"{slide_id} incomplete"
        for slide_id in bag.slide_ids
        for directory in directories
    ]


def _read(
    head: Head,
    directories: list[EmbeddingDirectory],
    bag: Bag,
    failures: list[Failure],
    watchdog: Watchdog,
) -> list[SlideTiles]:
    """Tiles of each slide as the head takes them; others are added to ``failures``."""
    slides = []
    for slide_id in bag.slide_ids:
        error = "NoTiles"
        reason = "no complete embeddings: run mshisto tile and mshisto embed on it"
        if all(slide_id in directory.patient_ids for directory in directories):
            with watchdog.watching():
                found = read_slide(head, directories, slide_id)
            failures += found.failures
            scales = (found.tiles, *found.finer)
            if not all(np.isfinite(part.values).all() for part in scales):
                error, reason = "NotFinite", "embeddings not finite: embed it again"
            elif len(found.tiles.row):
                slides.append(found)
                continue
            elif found.failures:
                reason = "no tile that all views have"
            else:
                reason = f"no tile with enough tissue at {head.scale:g} um/px"
        failures.append(Failure(slide_id, "predict", "input", error, reason))
    return slides


def _scores(
    slides: list[SlideTiles], prediction: HeadPrediction | None, head: Head
) -> pa.Table:
    """The table of scores: instances, then the tiles of each finer scale."""
    scales = [[slide.tiles for slide in slides]]
    for i in range(len(slides[0].finer) if slides else 0):
        scales.append([slide.finer[i] for slide in slides])
    parts = [part for scale in scales for part in scale]
    sizes = [sum(len(part.row) for part in scale) for scale in scales]
    names = [part.slide_id for part in parts for _ in part.row]
    columns: dict[str, Any] = {"slide_id": pa.array(names, pa.string())}
    for name, kind in _IDENTITY.items():
        arrays = [getattr(part, name) for part in parts]
        columns[name] = np.concatenate([np.zeros(0, kind), *arrays]).astype(kind)
    scores: dict[str, np.ndarray | None] = {"attention": None}
    classes = head.classes if head.kind.of_classes else ()
    scores |= {f"attention_{name}": None for name in classes}
    scores |= {f"instance_{name}": None for name in classes}
    if prediction:
        scores["attention"] = prediction.attention
        for i, name in enumerate(classes):
            if prediction.class_attention is not None:
                scores[f"attention_{name}"] = prediction.class_attention[:, i]
            if prediction.instance_probabilities is not None:
                column = prediction.instance_probabilities[:, i]
                scores[f"instance_{name}"] = column
    for name, values in scores.items():
        columns[name] = _column(sizes, [values])
    children = prediction.child_attention if prediction else ()
    columns["child_attention"] = _column(sizes, [None, *children])
    return pa.table(columns | tile_decisions(head, prediction, sum(sizes)))


def _column(sizes: list[int], values: list[np.ndarray | None]) -> pa.ChunkedArray:
    """A column over the rows of all scales, null where a scale has no value."""
    chunks = []
    for i, size in enumerate(sizes):
        known = values[i] if i < len(values) else None
        missing = pa.nulls(size, pa.float64())
        chunks.append(missing if known is None else pa.array(known.astype("f8")))
    return pa.chunked_array(chunks, pa.float64())
