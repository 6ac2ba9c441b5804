"""What ``select_backbone`` shows beside its ranking, and its MLflow runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mshisto_ray import components
from mshisto_ray.config import InputError
from mshisto_ray.jobs._select_config import SelectConfig
from mshisto_ray.learning.tile_metrics import TileMetrics, mean_metrics
from mshisto_ray.reporting.encoder_tables import (
    EncoderTable,
    few_shot_table,
    second_table,
    site_table,
)
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.learned_labels import in_words, learned_by, learned_notes
from mshisto_ray.tile_classification.head.classes import TileClasses
from mshisto_ray.tile_classification.head.run import draw_folds
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tile_classification.probes import FAMILY as PROBES
from mshisto_ray.tile_classification.probes import Probe, simpleshot
from mshisto_ray.tile_classification.ranking import pooling_note, score_probe
from mshisto_ray.tile_classification.sites import measure_robustness


def with_sites(config: SelectConfig, samples: TileSamples) -> TileSamples:
    """Tiles with the site of their slide, where ``config.site`` names its column.

    Raises:
        InputError: no such column, a slide without a site, or a single site.
    """
    if config.site is None or config.cohort is None:
        return samples
    sites = read_cohort(config.cohort, False, config.columns).column(config.site)
    names = [sites.get(slide) for slide in samples.features.slide_ids]
    used = {names[slide] for slide in np.unique(samples.slide)}
    if None in used or len(used) < 2:
        what = "is empty for a slide" if None in used else "has one value"
        raise InputError(
            f"site: column {config.site!r} of {config.cohort} {what}: robustness needs "
            "the site of every slide, and two sites"
        )
    return replace(samples, site=np.array(names, str)[samples.slide])


def few_shots(
    config: SelectConfig, given: Mapping[str, TileSamples]
) -> list[EncoderTable]:
    """SimpleShot with a few tiles a class; none without ``few_shot``."""
    if config.few_shot is None:
        return []
    scores: dict[str, dict[int, TileMetrics]] = {}
    for name, samples in given.items():
        splits = draw_folds(samples, config.split)
        scores[name] = {
            shots: mean_metrics(
                [
                    score_probe(simpleshot.build(shots=shots, seed=i), samples, splits)
                    for i in range(config.few_shot.draws)
                ]
            )
            for shots in config.few_shot.shots
        }
    return [few_shot_table(scores, config.metric, config.few_shot.draws)]


def robustness(
    config: SelectConfig,
    given: Mapping[str, TileSamples],
    known: Mapping[str, TileMetrics],
) -> list[EncoderTable]:
    """Sites, with the probe that ranks; none where there are none.

    ``known``: its metrics, of each encoder.
    """
    if any(samples.site is None for samples in given.values()):
        return []
    share = config.split.validation
    found = {
        name: measure_robustness(samples, _probe(config), share)
        for name, samples in given.items()
    }
    return [site_table(found, known, config.metric, next(iter(config.probes)))]


def carried_over(
    config: SelectConfig,
    second: Mapping[str, TileSamples],
    first: Mapping[str, TileMetrics],
) -> EncoderTable:
    """Whether the ranking by the first probe holds on a second task."""
    scores = {
        name: score_probe(_probe(config), samples, draw_folds(samples, config.split))
        for name, samples in second.items()
    }
    return second_table(first, scores, config.metric)


def pooling_notes(by_probe: Mapping[str, Mapping[str, TileMetrics]]) -> list[str]:
    """A warning a probe whose values over all folds say how levels differ."""
    found = (pooling_note(*item, TileClasses.titles) for item in by_probe.items())
    return [note for note in found if note]


def _probe(config: SelectConfig) -> Probe:
    return components.build(PROBES, next(iter(config.probes.values())))


def learned_labels(config: SelectConfig, tiles: Mapping[str, TileSamples]) -> list[str]:
    """Warnings of encoders that learned from labels of patients that are tested."""
    first = next(iter(tiles.values()))
    patients = set(first.patients_of_tiles().tolist())
    if config.images is None:
        return learned_notes(
            map(EmbeddingDirectory, config.embeddings.values()), patients
        )
    parts = {n: p.model_dump(mode="json") for n, p in config.encoders.items()}
    found = (in_words(n, learned_by(part), patients) for n, part in parts.items())
    return [f"warning: {note}" for note in found if note]
