"""Regions and points of the probability maps of a head, for QuPath and measured."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mshisto_ray.config import InputError
from mshisto_ray.decision.config import HALF
from mshisto_ray.decision.files import read_decision
from mshisto_ray.decision.rules import DecisionRules
from mshisto_ray.jobs._detect_config import DetectConfig
from mshisto_ray.jobs._detect_output import (
    METRICS,
    write_curves,
    write_metrics,
    write_slide,
    write_tables,
)
from mshisto_ray.jobs._detect_slide import Detected, Detector
from mshisto_ray.learning.result_files import HEAD_FOLDER
from mshisto_ray.maps.making import Settings
from mshisto_ray.maps.measures import summarise
from mshisto_ray.maps.source import TileScores, choose_classes
from mshisto_ray.maps.truth import PointTable, read_points
from mshisto_ray.progress import say
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tile_classification.head.run import RESULT
from mshisto_ray.tracking import flatten

STAGE = "maps"


@dataclass(frozen=True)
class _Opened:
    """What maps are made of.

    ``names``: classes to map, ``wanted`` where they were named; ``rules``: of the head,
    None where it keeps none or they are not wanted.
    """

    scores: TileScores
    wanted: Sequence[str] | None
    names: Sequence[str]
    settings: Settings
    rules: DecisionRules | None
    cohort: Cohort | None
    points: PointTable | None

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings and scores that decide maps; no paths."""
        own = asdict(self.settings)
        wanted = None if self.wanted is None else list(self.wanted)
        own |= {"classes": wanted, "scores": self.scores.digest}
        del own["tolerance_um"]
        if self.rules and self.rules.calibration:
            own["decision"] = self.rules.state
        return own


def check(config: DetectConfig) -> None:
    """Check predictions, tiles, classes, truth and that ``out`` can be used."""
    check_stage(config.out, STAGE, _open(config).recipe)


def run(config: DetectConfig) -> None:
    """Turn probabilities of tiles into regions and points, and measure them."""
    given = _open(config)
    if given.rules:
        say(f"detect: {_in_words(given.settings, given.rules)}")
    recorded = config.model_dump(mode="json")
    with open_stage(config.out, STAGE, given.recipe, recorded):
        _run(config, given)


def _open(config: DetectConfig) -> _Opened:
    rules = _rules(config)
    calibrate = rules.calibrated if rules and rules.calibration else None
    scores = TileScores(config.predictions, TileDirectory(config.tiles), calibrate)
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
    settings = _settings(config, names == list(scores.classes[1:]), rules)
    return _Opened(scores, config.classes, names, settings, rules, cohort, points)


def _rules(config: DetectConfig) -> DecisionRules | None:
    """The rules that a head keeps, and that ``predict`` writes into its folder."""
    inside = config.predictions / RESULT / HEAD_FOLDER
    folder = inside if inside.is_dir() else config.predictions
    found = read_decision(folder) if config.decision else None
    return found.rules if found else None


def _settings(
    config: DetectConfig, maps_second: bool, rules: DecisionRules | None
) -> Settings:
    """``maps_second``: whether the second of two classes alone is mapped."""
    own = rules.threshold if rules and maps_second else None
    default = HALF if own is None else own
    names = set(Settings.__dataclass_fields__)
    chosen = config.model_dump(include=names)
    for key in ("threshold", "peak_threshold"):
        chosen[key] = default if chosen[key] is None else chosen[key]
    return Settings(**chosen)


def _in_words(settings: Settings, rules: DecisionRules) -> str:
    what = "calibrated probabilities" if rules.calibration else "probabilities"
    return (
        f"{what} of the head, regions from {settings.threshold:.3f} on; its decision "
        "was fitted on the validation tiles of all folds, of which other folds test "
        "some"
    )


def _run(config: DetectConfig, given: _Opened) -> None:
    scores, names, settings = given.scores, given.names, given.settings
    peak, tiles = settings.peak_threshold, TileDirectory(config.tiles)
    more = given.cohort, given.points
    detector = Detector(config, settings, tiles, names, *more)
    found: list[Detected] = []
    for slide in scores.slides():
        columns = [scores.classes.index(name) for name in names]
        own = detector.detect(slide, columns)
        write_slide(config.out, peak, names, own)
        found.append(own.without_pixels())
        say(f"detect: {slide.slide_id} at {slide.mpp:g} um/px: {own.in_words()}")
    for note in dict.fromkeys(note for own in found for note in own.notes):
        say(f"detect: {note}")
    write_tables(config.out, peak, found)
    metrics: dict[str, dict[str, Interval]] = {}
    for name in names:
        measured = [m for own in found for m in own.measures if m.name == name]
        metrics[name] = summarise(measured, peak, config.points is not None)
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
