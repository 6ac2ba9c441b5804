"""Encoders compared on one set of labelled tiles or images by small classifiers."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.backbone.engine import own_engine
from mshisto_ray.backbone.precision import Precision
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.embedding.worker import ENCODERS
from mshisto_ray.encoders import Encoder, check_takes, licence_of
from mshisto_ray.jobs._report import write_report
from mshisto_ray.jobs._select_config import SCORES, SUMMARY, SelectConfig
from mshisto_ray.jobs._select_report import SelectReport
from mshisto_ray.jobs._select_tables import (
    carried_over,
    few_shots,
    learned_labels,
    log_comparison,
    robustness,
    with_sites,
)
from mshisto_ray.learning.tile_metrics import TileMetrics
from mshisto_ray.reporting.embedding_map import check_installed, draw_map
from mshisto_ray.reporting.encoder_ranking import (
    EncoderFacts,
    cost_table,
    ranking_table,
    score_row,
)
from mshisto_ray.reporting.encoder_tables import EncoderTable
from mshisto_ray.representation.preparation import reduction_of
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.manifest import write_text
from mshisto_ray.tile_classification.head.config import (
    TileHeadConfig,
)
from mshisto_ray.tile_classification.head.run import draw_folds
from mshisto_ray.tile_classification.head.samples import TileSamples, read_samples
from mshisto_ray.tile_classification.images import (
    Images,
    as_samples,
    embed_images,
    read_images,
    second_task,
)
from mshisto_ray.tile_classification.probes import FAMILY as PROBES
from mshisto_ray.tile_classification.ranking import score_probe

_FLOORS = {
    "floor: colour": {"name": "colour_stats"},
    "floor: random": {"name": "timm", "model": "resnet18", "weights": "random"},
}


# Tiles with their embeddings, images a second (NaN: made before), and what ran.
_Embedded = tuple[TileSamples, float, str]


def check(config: SelectConfig) -> None:
    """Check images or embeddings, encoders, classes and folds."""
    if config.embedding_map:
        check_installed()
    if config.images is None:
        for samples, *_ in _embedded(config).values():
            draw_folds(samples, config.split)
            _check_probes(config, samples.features.dim, len(samples.classes))
        for samples in _second(config, {}).values():
            draw_folds(samples, config.split)
        return
    images = read_images(config.images)
    # Folds depend on no embedding.
    plain = as_samples(images, np.zeros((len(images.paths), 1), np.float32), "", "")
    for samples in (plain, *_second(config, {"": plain}).values()):
        draw_folds(samples, config.split)
    for part in _encoders(config).values():
        encoder = _build(part, config.precision)
        check_takes(encoder, images.side)
        _check_probes(config, encoder.dim, len(set(images.labels)))


def run(config: SelectConfig) -> None:
    """Rank encoders on labelled images or embedded tiles."""
    rows: list[dict[str, Any]] = []
    by_probe: dict[str, dict[str, TileMetrics]] = {name: {} for name in config.probes}
    given = _of_images(config) if config.images else _embedded(config)
    facts: dict[str, EncoderFacts] = {}
    for encoder, (samples, rate, engine) in given.items():
        splits = draw_folds(samples, config.split)
        facts[encoder] = _facts_of(config, encoder, samples, rate, engine)
        for name, part in config.probes.items():
            started = time.perf_counter()
            probe = components.build(PROBES, part)
            found = by_probe[name][encoder] = score_probe(probe, samples, splits)
            seconds = time.perf_counter() - started
            rows.append(score_row(encoder, name, facts[encoder], found, seconds))
            value = found.values[config.metric]
            print(
                f"select_backbone: {encoder}, {name}: {config.metric} {value:.3f} "
                f"({seconds:.1f} s)",
                flush=True,
            )
    config.out.mkdir(parents=True, exist_ok=True)
    _write_scores(config, rows)
    tiles = {name: samples for name, (samples, *_) in given.items()}
    notes = learned_labels(config, tiles)
    for note in notes:
        print(f"select_backbone: {note}", flush=True)
    tables = _tables(config, tiles, by_probe, facts)
    maps = _draw_maps(config, tiles)
    report = SelectReport(config, tiles, by_probe, tables, maps, notes)
    write_text(config.out / SUMMARY, report.summary)
    print(report.summary)
    print(f"select_backbone: {config.out / SUMMARY}", flush=True)
    written = [config.out / SUMMARY, config.out / SCORES]
    written += write_report("select_backbone", config, config.out, report)
    log_comparison(config, by_probe, facts, written)


def _tables(
    config: SelectConfig,
    given: Mapping[str, TileSamples],
    by_probe: Mapping[str, Mapping[str, TileMetrics]],
    facts: Mapping[str, EncoderFacts],
) -> list[EncoderTable]:
    """The ranking by each probe, cost, and what else the config asks for."""
    main = by_probe[next(iter(config.probes))]
    tables = [
        ranking_table(probe, scores, facts, config.metric)
        for probe, scores in by_probe.items()
    ]
    tables.append(cost_table(facts, main, config.metric, _FLOORS))
    tables += few_shots(config, given)
    tables += robustness(config, given, main)
    if second := _second(config, given):
        tables.append(carried_over(config, second, main))
    return tables


def _draw_maps(
    config: SelectConfig, given: Mapping[str, TileSamples]
) -> dict[str, Path]:
    """A picture of the tiles of each encoder; none where they are not wanted."""
    found = {}
    for name, samples in given.items() if config.embedding_map else ():
        path = config.out / f"map.{file_name(name)}.png"
        values = samples.read(np.arange(len(samples)))
        names = np.array(samples.classes)[samples.target]
        draw_map(path, name, values, names, samples.classes)
        found[name] = path
    return found


def _second(
    config: SelectConfig, given: Mapping[str, TileSamples]
) -> dict[str, TileSamples]:
    """The tiles with the classes of a second task; empty without one."""
    if config.images and config.images.second_label:
        images = read_images(config.images)
        return {name: second_task(images, own) for name, own in given.items()}
    if config.second_task is None:
        return {}
    other = config.model_copy(update={"target": config.second_task, "site": None})
    return {name: own for name, (own, *_) in _embedded(other).items()}


def _check_probes(config: SelectConfig, width: int, num_classes: int) -> None:
    """Refuse probes whose reduction is too wide for an encoder, before any work."""
    for part in config.probes.values():
        if "reduction" in part.parameters:
            reduction = Part.model_validate(part.parameters["reduction"])
            reduction_of(reduction, width, num_classes)


def _facts_of(
    config: SelectConfig, name: str, samples: TileSamples, rate: float, engine: str
) -> EncoderFacts:
    part = _encoders(config).get(name)
    known = part.model_dump(mode="json") if part else samples.encoder
    return EncoderFacts(samples.features.dim, rate, engine, licence_of(known))


def _encoders(config: SelectConfig) -> dict[str, Part]:
    floors = _FLOORS if config.floors else {}
    known = {
        name: components.check(ENCODERS, Part.model_validate(raw))
        for name, raw in floors.items()
    }
    return {**config.encoders, **known}


def _build(part: Part, precision: Precision) -> Encoder:
    return components.build(ENCODERS, part, "cpu", precision)


def _of_images(config: SelectConfig) -> dict[str, _Embedded]:
    assert config.images is not None
    images: Images = read_images(config.images)
    found = {}
    for name, part in _encoders(config).items():
        encoder = _build(part, config.precision)
        engine = own_engine(encoder)
        shown = f"{engine} {config.precision}" if engine else "none"
        found[name] = *embed_images(images, encoder, name), shown
        print(
            f"select_backbone: {name}: {len(images.paths)} images of {images.side} px, "
            f"{found[name][1]:.1f} a second",
            flush=True,
        )
    return found


def _embedded(config: SelectConfig) -> dict[str, _Embedded]:
    found: dict[str, _Embedded] = {}
    first: TileSamples | None = None
    for name, path in config.embeddings.items():
        raw = {
            "embeddings": path,
            "scale": config.scale,
            "colour": config.colours.get(name),
            "cohort": config.cohort,
            "columns": config.columns,
            "tiles": config.tiles,
            "target": config.target,
            "split": config.split,
            "patience": None,
            "runtime": config.runtime,
        }
        samples = with_sites(
            config, read_samples(configs.validate(TileHeadConfig, raw))
        )
        first = first or samples
        if not _same_tiles(first, samples):
            raise InputError(
                f"embeddings.{name}: {path} has {len(samples):,} labelled tiles that "
                f"are not those of the first, {len(first):,}: embed the same tiles"
            )
        found[name] = samples, float("nan"), ""
    return found


def _same_tiles(one: TileSamples, other: TileSamples) -> bool:
    same_slides = list(one.features.slide_ids) == list(other.features.slide_ids)
    names = ("slide", "place", "target", "group")
    return same_slides and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


def _write_scores(config: SelectConfig, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(config.out / SCORES, text.getvalue())
