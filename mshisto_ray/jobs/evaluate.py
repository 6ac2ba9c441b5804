"""Compare encoders by the tiles that they retrieve, beside two baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.distributed.session import connect
from mshisto_ray.evaluation.encoder_scores import Score, measure
from mshisto_ray.evaluation.labelling import read_labelled_tiles
from mshisto_ray.evaluation.neighbours import Neighbours
from mshisto_ray.evaluation.plan import Plan, QuestionConfig, make_plan
from mshisto_ray.evaluation.tile_set import read_tile_set, read_values
from mshisto_ray.jobs import embed
from mshisto_ray.jobs._cohort import say_cohort
from mshisto_ray.jobs._embed_config import make_targets
from mshisto_ray.jobs._evaluate_config import BASELINES, EvaluateConfig
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
    directories = _directories(config)
    _plan(config, directories, _read_cohort(config))
    check_stage(config.out, STAGE, _recipe(config, directories))
    for baseline in _missing_baselines(config).values():
        # Builds the encoder, so that its errors show here.
        make_targets(baseline, TileDirectory(config.tiles))


def run(config: EvaluateConfig) -> None:
    """Compare encoders by retrieval, descriptor distances and effective rank."""
    directories = _directories(config)
    recipe = _recipe(config, directories)
    with open_stage(config.out, STAGE, recipe, config.model_dump(mode="json")):
        directories |= _make_baselines(config)
        cohort = _read_cohort(config)
        plan = _plan(config, directories, cohort)
        if cohort:
            say_cohort("evaluate", cohort)
        for note in plan.notes:
            say(f"evaluate: {note}")
        scores, found = _measure(config, plan, directories)
        say(f"\n{write_report(config.out, plan, scores, found, config.exclude)}")
        _draw(config, plan, found)
        _log(config, scores)


def _measure(
    config: EvaluateConfig, plan: Plan, directories: Mapping[str, EmbeddingDirectory]
) -> tuple[dict[str, dict[str, Score]], dict[str, Neighbours]]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scores, found = {}, {}
    for name, directory in directories.items():
        values = read_values(directory, plan.labelled.tiles)
        coarse = read_values(directory, plan.coarse) if plan.coarse else None
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


def _directories(config: EvaluateConfig) -> dict[str, EmbeddingDirectory]:
    """The given embeddings: encoders, then baselines."""
    given = {name: getattr(config.baselines, name) for name in BASELINES}
    paths = config.encoders | {name: path for name, path in given.items() if path}
    return {
        name: EmbeddingDirectory(path, config.colours.get(name))
        for name, path in paths.items()
    }


def _recipe(
    config: EvaluateConfig, directories: Mapping[str, EmbeddingDirectory]
) -> dict[str, Any]:
    """The settings that decide the scores, except labels, which may be corrected."""
    keys = {*QuestionConfig.model_fields, "label", "scale"}
    settings = config.model_dump(mode="json", include=keys)
    random = config.baselines.random_encoder.model_dump(mode="json")
    digests = {name: directory.digest for name, directory in directories.items()}
    return settings | {"encoders": digests, "random_encoder": random}


def _plan(
    config: EvaluateConfig,
    directories: Mapping[str, EmbeddingDirectory],
    cohort: Cohort | None,
) -> Plan:
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
    coarser = [  # imported features may lack them
        scale
        for scale in scales
        if scale > mpp and all(scale in d.scales for d in directories.values())
    ]
    slides = labelled.tiles.slide_ids
    coarse = (
        read_tile_set(tiles, directories, slides, coarser[0], own_only=False)
        if coarser
        else None
    )
    return make_plan(labelled, coarse, config)


def _read_cohort(config: EvaluateConfig) -> Cohort | None:
    if config.cohort is None:
        return None
    return read_cohort(config.cohort, False, config.columns)


def _make_baselines(config: EvaluateConfig) -> dict[str, EmbeddingDirectory]:
    """Embed the tiles with the baselines that were not given."""
    missing = _missing_baselines(config)
    if missing:
        with connect():
            for baseline in missing.values():
                embed.run(baseline)
    return {name: EmbeddingDirectory(b.out) for name, b in missing.items()}


def _missing_baselines(config: EvaluateConfig) -> dict[str, embed.EmbedConfig]:
    """Embedding configs of the baselines that were not given."""
    parts = {
        "colour_stats": {"name": "colour_stats"},
        "random": config.baselines.random_encoder.model_dump(),
    }
    found = {}
    for name, part in parts.items():
        if not getattr(config.baselines, name):
            out = config.out / "baselines" / name
            raw = {"tiles": config.tiles, "out": out, "encoder": part}
            raw["runtime"] = config.runtime.model_dump() | {"mlflow": _mlflow(config)}
            found[name] = configs.validate(embed.EmbedConfig, raw)
    return found


def _mlflow(config: EvaluateConfig) -> dict[str, str]:
    """The store of this evaluation, for the baselines that it makes too."""
    uri = config.runtime.store_uri(config.out)
    return {"uri": uri, "experiment": config.runtime.mlflow.experiment}


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
