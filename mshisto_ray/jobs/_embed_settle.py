"""Engines tried on tiles of the cohort, where a directory leaves them open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mshisto_ray.backbone.engine import Pair
from mshisto_ray.config import InputError
from mshisto_ray.embedding.engine_check import Trial, choose, make_trials
from mshisto_ray.embedding.worker import EmbedWork
from mshisto_ray.jobs._embed_config import EmbedConfig, EmbedTarget
from mshisto_ray.progress import say
from mshisto_ray.store import embeddings


def work_of(config: EmbedConfig, targets: Sequence[EmbedTarget]) -> EmbedWork:
    """The settings of every worker."""
    encoders = {
        target.out: target.config.encoder
        for target in targets
        if target.stage == embeddings.STAGE and target.config.encoder
    }
    kept = [
        target.out
        for target in targets
        if target.config.pixels_out and target.stage != embeddings.STAGE
    ]
    return EmbedWork(
        config.tiles,
        encoders,
        config.batch_size,
        config.dtype,
        config.stain,
        config.colour,
        config.compile,
        kept[0] if kept else None,
        config.pixels_quality,
        {target.out: target.pair for target in targets if target.out in encoders},
    )


def settle(
    config: EmbedConfig, targets: Sequence[EmbedTarget], work: EmbedWork
) -> list[EmbedTarget]:
    """Try engines on tiles of the cohort where that is open; print what was found.

    Raises:
        InputError: the engine that the config names does not run on the workers.
    """
    units = [
        {
            "out": str(target.out),
            "engine": config.engine,
            "precision": config.precision,
            "configured": asdict(target.pair),
        }
        for target in targets
        if target.is_open
    ]
    if not units:
        return list(targets)
    # Takes seconds to import, which a directory that is there does without.
    from mshisto_ray.distributed import pipeline, session
    from mshisto_ray.jobs._embed_plan import plan_reading

    with session.connect():
        plan, _ = plan_reading(config)
        arguments = (work, "cuda" if plan.gpus else "cpu", plan.threads)
        one = replace(plan, actors=1)
        rows = list(pipeline.stream(units, make_trials, arguments, one))
    found = {Path(row["out"]): row for row in rows}
    return [
        _settled(target, config, found[target.out]) if target.is_open else target
        for target in targets
    ]


def _settled(
    target: EmbedTarget, config: EmbedConfig, row: Mapping[str, Any]
) -> EmbedTarget:
    trials = [Trial(**one) for one in row["trials"]]
    if not trials:
        say(
            f"embed: only {row['tiles']} tiles could be read to compare engines: "
            f"{target.pair}"
        )
        return target.as_pair(target.pair, {})
    chosen = choose(trials, config.engine, config.precision)
    if chosen is None:
        chosen = next(trial for trial in trials if trial.configured)
        if chosen.error:
            raise InputError(f"engine: {chosen}")
        say(f"embed: warning: {chosen}: changes the embeddings, as configured")
    own = trials[0].engine
    engine = None if chosen.engine == own else chosen.engine
    say(f"embed: engine: {chosen} on {row['tiles']} tiles of the cohort")
    for trial in trials:
        if trial is not chosen:
            say(f"embed: engine: not {trial}")
    checked = {
        "tiles": row["tiles"],
        "trials": [asdict(t) | {"passes": t.passes} for t in trials],
    }
    pair = Pair(engine, chosen.precision)  # pyright: ignore[reportArgumentType]
    return target.as_pair(pair, checked)
