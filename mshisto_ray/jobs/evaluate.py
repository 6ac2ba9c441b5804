"""Compare encoders by the tiles that they retrieve, beside two baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mshisto_ray.config import InputError
from mshisto_ray.evaluation.encoder_scores import Score, measure
from mshisto_ray.evaluation.labelling import read_labelled_tiles
from mshisto_ray.evaluation.neighbours import Neighbours
from mshisto_ray.evaluation.plan import Plan, QuestionConfig, make_plan
from mshisto_ray.evaluation.tile_set import read_values
from mshisto_ray.jobs._cohort import say_cohort
from mshisto_ray.jobs._embed_config import make_targets
from mshisto_ray.jobs._evaluate_config import EvaluateConfig
from mshisto_ray.jobs._evaluate_encoders import (
    Encoders,
    make_baselines,
    missing_baselines,
    open_encoders,
    read_coarse,
)
from mshisto_ray.progress import say
from mshisto_ray.reporting.embedding_map import check_installed, draw_embedding_map
from mshisto_ray.reporting.evaluation_report import Scores, write_report
from mshisto_ray.reporting.retrieval_sheet import (
    SHOWN,
    choose_queries,
    draw_retrieval_sheet,
    read_pictures,
)
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.learned_labels import learned_notes
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.store.tiles import TileDirectory

STAGE = "evaluation"
PICTURES, MAPS = "queries", "maps"


def check(config: EvaluateConfig) -> None:
    """Check tiles, embeddings, labels, that queries have targets, and ``out``."""
    if config.embedding_map:
        check_installed()
    encoders = open_encoders(config)
    _plan(config, encoders, _read_cohort(config))
    check_stage(config.out, STAGE, _recipe(config, encoders))
    for baseline in missing_baselines(config):
        # Builds the encoder, so that its errors show here.
        make_targets(baseline, TileDirectory(baseline.tiles))


def run(config: EvaluateConfig) -> None:
    """Compare encoders by retrieval, descriptor distances and effective rank."""
    recipe = _recipe(config, open_encoders(config))
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        missing = missing_baselines(config)
        make_baselines(missing)
        encoders = open_encoders(config, missing)
        cohort = _read_cohort(config)
        plan = _plan(config, encoders, cohort)
        if cohort:
            say_cohort("evaluate", cohort)
        for note in plan.notes:
            say(f"evaluate: {note}")
        scores, found = _measure(config, plan, encoders)
        say(f"\n{write_report(config.out, plan, scores, found, config.exclude)}")
        _draw(config, plan, found)
        _log(config, scores)


def _measure(
    config: EvaluateConfig, plan: Plan, encoders: Encoders
) -> tuple[dict[str, dict[str, Score]], dict[str, Neighbours]]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scores, found = {}, {}
    for name, directory in encoders.fine.items():
        values = read_values(directory, plan.labelled.tiles)
        above = encoders.coarse[name]
        coarse = read_values(above, plan.coarse) if plan.coarse else None
        scores[name], found[name] = measure(
            values, coarse, plan, config.normalise, device
        )
        if config.embedding_map:
            folder = config.out / MAPS
            folder.mkdir(exist_ok=True)
            tiles, plain = plan.labelled, config.normalise
            path = folder / f"{file_name(name)}.png"
            draw_embedding_map(path, name, values, tiles, plain, config.seed)
        say(f"evaluate: {name} ({directory.dim} values per tile) done")
    return scores, found


def _recipe(config: EvaluateConfig, encoders: Encoders) -> dict[str, Any]:
    """The settings that decide the scores, except labels, which may be corrected."""
    keys = {*QuestionConfig.model_fields, "label", "scale"}
    settings = config.model_dump(mode="json", include=keys)
    random = config.baselines.random_encoder.model_dump(mode="json")
    digests = {name: found.digest for name, found in encoders.fine.items()}
    recipe = settings | {"encoders": digests, "random_encoder": random}
    if config.coarse.is_given:
        recipe["coarse"] = {
            name: EmbeddingDirectory(path).digest
            for name, path in config.coarse.encoders.items()
        }
    return recipe


def _plan(config: EvaluateConfig, encoders: Encoders, cohort: Cohort | None) -> Plan:
    directories = encoders.fine
    tiles = TileDirectory(config.tiles)
    scales = sorted(tiles.manifest.recipe["scales"])
    mpp = scales[0] if config.scale is None else config.scale
    if mpp not in scales:
        raise InputError(f"scale: {config.tiles} has no {mpp:g} um/px; have {scales}")
    site = config.exclude.site_column if config.exclude.by == "site" else None
    labelled = read_labelled_tiles(tiles, directories, mpp, cohort, config.label, site)
    if config.label.column is not None:
        slides = np.unique(labelled.tiles.slide).tolist()
        patients = {labelled.patient_ids[slide] for slide in slides}
        learned = learned_notes(directories.values(), patients)
        labelled = replace(labelled, notes=(*labelled.notes, *learned))
    coarse = read_coarse(config, encoders, mpp, labelled.tiles.slide_ids)
    return make_plan(labelled, coarse, config)


def _read_cohort(config: EvaluateConfig) -> Cohort | None:
    if config.cohort is None:
        return None
    return read_cohort(config.cohort, False, config.columns)


def _draw(config: EvaluateConfig, plan: Plan, found: Mapping[str, Neighbours]) -> None:
    """Draw ``queries/<encoder>.png``: the same queries, and the tiles each found."""
    places = choose_queries(plan)
    if not len(places):
        return
    rows = {int(row) for row in plan.retrieval.queries[places]}
    for neighbours in found.values():
        rows |= {int(row) for row in neighbours.rows[places, :SHOWN].flat if row >= 0}
    pictures = read_pictures(TileDirectory(config.tiles), plan, sorted(rows))
    if not pictures:
        say("evaluate: no slide can be read from here: no pictures of queries")
        return
    folder = config.out / PICTURES
    folder.mkdir(exist_ok=True)
    for name, neighbours in found.items():
        page = draw_retrieval_sheet(name, plan, neighbours, places, pictures)
        page.save(folder / f"{file_name(name)}.png")
    say(f"evaluate: queries and their nearest tiles: {folder}")


def _log(config: EvaluateConfig, scores: Scores) -> None:
    """Log a run for the evaluation, and one for each encoder under it."""
    store = config.runtime.open_store(config.out)
    names = ("summary.md", "metrics.json", "metrics.parquet", PICTURES, MAPS)
    files = [config.out / name for name in names if (config.out / name).exists()]
    settings = config.model_dump(mode="json")
    parent = store.log_run("evaluate", settings, {}, artifacts=files)
    for name, answers in scores.items():
        metrics = {}
        for metric, score in answers.items():
            interval = score.interval
            metrics[metric] = interval.value
            if not math.isnan(interval.low):
                metrics[f"{metric}_ci_low"] = interval.low
                metrics[f"{metric}_ci_high"] = interval.high
        store.log_run(name, {"encoder": name}, metrics, {"encoder": name}, (), parent)
    say(f"evaluate: {config.out / 'summary.md'}")
    say(f"evaluate: {store.view_command()}")
