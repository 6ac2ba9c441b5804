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
from mshisto_ray.components import Part
from mshisto_ray.encoders import check_takes, licence_of
from mshisto_ray.jobs._report import write_report
from mshisto_ray.jobs._select_config import SCORES, SUMMARY, SelectConfig
from mshisto_ray.jobs._select_report import SelectReport
from mshisto_ray.jobs._select_runs import log_comparison
from mshisto_ray.jobs._select_tables import (
    carried_over,
    few_shots,
    learned_labels,
    pooling_notes,
    robustness,
)
from mshisto_ray.jobs._select_tiles import (
    FLOORS,
    build,
    embedded,
    encoders,
    of_images,
)
from mshisto_ray.learning.tile_metrics import TileMetrics
from mshisto_ray.reporting.embedding_map import check_installed, draw_map
from mshisto_ray.reporting.encoder_ranking import (
    EncoderFacts,
    conclusion,
    cost_table,
    ranking_table,
    score_row,
)
from mshisto_ray.reporting.encoder_tables import EncoderTable
from mshisto_ray.representation.preparation import reduction_of
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.manifest import write_text
from mshisto_ray.tile_classification.head.run import draw_folds
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.image_table import Images, read_images
from mshisto_ray.tile_classification.images import (
    as_samples,
    second_task,
)
from mshisto_ray.tile_classification.probes import FAMILY as PROBES
from mshisto_ray.tile_classification.ranking import score_probe


def check(config: SelectConfig) -> None:
    """Check images or embeddings, encoders, classes and folds."""
    if config.embedding_map:
        check_installed()
    if config.images is None:
        for samples, *_ in embedded(config).values():
            draw_folds(samples, config.split)
            _check_probes(config, samples.features.dim, len(samples.classes))
        for samples in _second(config, {}, None).values():
            draw_folds(samples, config.split)
        return
    images = read_images(config.images)
    # Folds depend on no embedding.
    plain = as_samples(images, np.zeros((len(images.paths), 1), np.float32), "", "")
    for samples in (plain, *_second(config, {"": plain}, images).values()):
        draw_folds(samples, config.split)
    for part in encoders(config).values():
        encoder = build(part, config.precision)
        check_takes(encoder, images.side)
        _check_probes(config, encoder.dim, len(set(images.labels)))


def inspect(config: SelectConfig) -> int:
    """Decode every image, and print what is left out, as ``--check`` does."""
    if config.images is not None:
        images = _readable(config)
        notes = (f"{len(images.paths)} images of {images.side} px", *images.notes)
        print("\n".join(f"# {note}" for note in notes), flush=True)
    return 0


def run(config: SelectConfig) -> None:
    """Rank encoders on labelled images or embedded tiles."""
    rows: list[dict[str, Any]] = []
    by_probe: dict[str, dict[str, TileMetrics]] = {name: {} for name in config.probes}
    images = _readable(config) if config.images else None
    for note in images.notes if images else ():
        print(f"select_backbone: {note}", flush=True)
    given = of_images(config, images) if images else embedded(config)
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
    notes = [*learned_labels(config, tiles), *pooling_notes(by_probe)]
    for note in notes:
        print(f"select_backbone: {note}", flush=True)
    notes = [*(images.notes if images else ()), *notes]
    tables = _tables(config, tiles, images, by_probe, facts)
    maps = _draw_maps(config, tiles)
    answer = conclusion(by_probe, facts, config.metric, FLOORS)
    report = SelectReport(config, tiles, by_probe, answer, tables, maps, notes)
    write_text(config.out / SUMMARY, report.summary)
    print(report.summary)
    print(f"select_backbone: {config.out / SUMMARY}", flush=True)
    written = [config.out / SUMMARY, config.out / SCORES]
    written += write_report("select_backbone", config, config.out, report)
    for line in log_comparison(config, by_probe, facts, written, answer):
        print(f"select_backbone: {line}", flush=True)


def _readable(config: SelectConfig) -> Images:
    """The images that can be decoded."""
    assert config.images is not None
    return read_images(config.images).readable()


def _tables(
    config: SelectConfig,
    given: Mapping[str, TileSamples],
    images: Images | None,
    by_probe: Mapping[str, Mapping[str, TileMetrics]],
    facts: Mapping[str, EncoderFacts],
) -> list[EncoderTable]:
    """The ranking by each probe, cost, and what else the config asks for."""
    main = by_probe[next(iter(config.probes))]
    tables = [
        ranking_table(probe, scores, facts, config.metric)
        for probe, scores in by_probe.items()
    ]
    tables.append(cost_table(facts, main, config.metric, FLOORS))
    tables += few_shots(config, given)
    tables += robustness(config, given, main)
    if second := _second(config, given, images):
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
    config: SelectConfig, given: Mapping[str, TileSamples], images: Images | None
) -> dict[str, TileSamples]:
    """The tiles with the classes of a second task; empty without one."""
    if images and images.second:
        return {name: second_task(images, own) for name, own in given.items()}
    if config.second_task is None:
        return {}
    other = config.model_copy(update={"target": config.second_task, "site": None})
    return {name: own for name, (own, *_) in embedded(other).items()}


def _check_probes(config: SelectConfig, width: int, num_classes: int) -> None:
    """Refuse probes whose reduction is too wide for an encoder, before any work."""
    for part in config.probes.values():
        if "reduction" in part.parameters:
            reduction = Part.model_validate(part.parameters["reduction"])
            reduction_of(reduction, width, num_classes)


def _facts_of(
    config: SelectConfig, name: str, samples: TileSamples, rate: float, engine: str
) -> EncoderFacts:
    part = encoders(config).get(name)
    known = part.model_dump(mode="json") if part else samples.encoder
    return EncoderFacts(samples.features.dim, rate, engine, licence_of(known))


def _write_scores(config: SelectConfig, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(config.out / SCORES, text.getvalue())
