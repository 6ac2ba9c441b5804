"""Regions and points of the probability maps of a head, for QuPath and measured."""

from __future__ import annotations

import math
import re
from typing import Any

from mshisto_ray.config import InputError
from mshisto_ray.jobs._detect_config import DetectConfig
from mshisto_ray.jobs._detect_output import (
    METRICS,
    write_curves,
    write_metrics,
    write_slide,
    write_tables,
)
from mshisto_ray.jobs._detect_slide import Detected, Detector
from mshisto_ray.maps.making import Settings
from mshisto_ray.maps.measures import summarise
from mshisto_ray.maps.source import TileScores, choose_classes
from mshisto_ray.maps.truth import PointTable, read_points
from mshisto_ray.progress import say
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tracking import flatten

STAGE = "maps"


def check(config: DetectConfig) -> None:
    """Check predictions, tiles, classes, truth and that ``out`` can be used."""
    scores, _, _ = _open(config)
    check_stage(config.out, STAGE, _recipe(config, scores))


def run(config: DetectConfig) -> None:
    """Turn probabilities of tiles into regions and points, and measure them."""
    scores, cohort, points = _open(config)
    recipe = _recipe(config, scores)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        _run(config, scores, cohort, points)


def _open(
    config: DetectConfig,
) -> tuple[TileScores, Cohort | None, PointTable | None]:
    scores = TileScores(config.predictions, TileDirectory(config.tiles))
    names = choose_classes(scores.classes, config.classes)
    cohort = None
    if config.cohort:
        cohort = read_cohort(config.cohort, False, config.columns)
        if config.points is None and not any(row.annotation for row in cohort.rows):
            raise InputError(
                f"cohort: {config.cohort} names no annotation: give one in its column "
                "annotation, or points=TABLE, or leave cohort null"
            )
    unknown = sorted(set(config.annotations) - set(names))
    if unknown:
        raise InputError(
            f"annotations: {unknown[0]!r} is not mapped; classes are "
            f"{', '.join(map(repr, names))}"
        )
    points = read_points(config.points) if config.points else None
    return scores, cohort, points


def _recipe(config: DetectConfig, scores: TileScores) -> dict[str, Any]:
    names = {"classes", *Settings.__dataclass_fields__} - {"tolerance_um"}
    return config.model_dump(mode="json", include=names) | {"scores": scores.digest}


def _run(
    config: DetectConfig,
    scores: TileScores,
    cohort: Cohort | None,
    points: PointTable | None,
) -> None:
    names = choose_classes(scores.classes, config.classes)
    chosen = config.model_dump(include=set(Settings.__dataclass_fields__))
    settings = Settings(**chosen)
    tiles = TileDirectory(config.tiles)
    detector = Detector(config, settings, tiles, names, cohort, points)
    found: list[Detected] = []
    for slide in scores.slides():
        columns = [scores.classes.index(name) for name in names]
        own = detector.detect(slide, columns)
        write_slide(config, names, own)
        found.append(own.without_pixels())
        say(f"detect: {slide.slide_id} at {slide.mpp:g} um/px: {own.in_words()}")
    for note in dict.fromkeys(note for own in found for note in own.notes):
        say(f"detect: {note}")
    write_tables(config, found)
    metrics: dict[str, dict[str, Interval]] = {}
    for name in names:
        measured = [m for own in found for m in own.measures if m.name == name]
        metrics[name] = summarise(
            measured, config.peak_threshold, config.points is not None
        )
        for key, value in metrics[name].items():
            # Of a single slide there is no interval.
            known = math.isfinite(value.low)
            ends = f" [{value.low:.3f}, {value.high:.3f}]" if known else ""
            say(f"detect: {name}: {key} {value.value:.3f}{ends}")
    write_metrics(config.out, metrics)
    plots = write_curves(config.out, names, found)
    say(f"detect: {len(found)} maps -> {config.out}")
    record = config.runtime.result_run(config.out)
    # MLflow takes few signs in names.
    logged = {
        re.sub(r"[^\w\-./ ]", "_", f"{key}_{name}"): value.value
        for name, own in metrics.items()
        for key, value in own.items()
        if math.isfinite(value.value)
    }
    params = flatten(config.model_dump(mode="json", exclude={"runtime"}))
    key = f"{scores.digest} {sorted(logged.items())}"
    artifacts = [config.out / METRICS, *plots]
    record.log(key, "detect", params, logged, {}, artifacts)
