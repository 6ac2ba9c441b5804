"""A whole study in one Ray session: tile, embed, sweep, predict."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import pyarrow.parquet as pq

from mshisto_ray import config as configs
from mshisto_ray.distributed.session import one_session
from mshisto_ray.jobs import embed, predict, sweep, tile
from mshisto_ray.jobs._contact_sheet import page_path
from mshisto_ray.jobs._report import write_report
from mshisto_ray.jobs._study import (
    check_study,
    keep_former,
    read_cohorts,
    say_places,
    say_ranking,
    say_step,
    write_slides,
)
from mshisto_ray.jobs._study_config import RunConfig, StudySteps, all_slides, plan_steps
from mshisto_ray.jobs._study_folds import check_without_refused
from mshisto_ray.jobs._study_report import StudyReport
from mshisto_ray.jobs._tile_check import check_slides
from mshisto_ray.learning.sweep import points
from mshisto_ray.progress import say
from mshisto_ray.store.failures import CSV
from mshisto_ray.store.manifest import write_text


def check(config: RunConfig) -> None:
    """Check every step as far as it can be before any work; nothing is written."""
    check_study(config, plan_steps(config))


def inspect(config: RunConfig) -> int:
    """Open every slide of both cohorts, tile a few; print what to expect.

    Returns:
        2 if a slide is refused, else 0.

    Raises:
        InputError: folds that cannot be trained without the slides that are refused.
    """
    cohort, new = read_cohorts(config)
    rows = [*cohort.rows, *(new.rows if new else ())]
    steps = plan_steps(config)
    judge = functools.partial(check_without_refused, steps, cohort)
    return tile.inspect_slides(rows, steps.tile, judge)


def run(config: RunConfig) -> int:
    """Run a study of your own slides: tile, embed, sweep models, predict."""
    started = time.monotonic()
    steps = plan_steps(config)
    check_study(config, steps)
    _check_slides(config, steps)
    with one_session():
        code = train(config, steps)
        predicted = _predict(config, steps)
    out = config.out
    report = StudyReport(config, steps, list(predicted.values()))
    page = write_report("run", config, out, report)
    looks = [look for what, path in predicted.items() for look in _places(what, path)]
    say_ranking(out)
    store = config.runtime.open_store(steps.sweep.out)
    say_places(
        time.monotonic() - started,
        [
            *(("all of it, to open in a browser", path) for path in page),
            ("what was tiled", page_path(out / "tiles", 0)),
            *_failures(out / "embeddings"),
            ("the ranking", out / "sweep" / "summary.md"),
            *looks,
            ("all runs, compared", store.view_command()),
        ],
    )
    return code


def _failures(embedded: Path) -> list[tuple[str, Path]]:
    """Where what failed in tiling and embedding is listed; empty: nothing failed."""
    num = pq.read_metadata(embedded / "failures.parquet").num_rows
    return [("what failed, and why", embedded / CSV)] if num else []


def _check_slides(config: RunConfig, steps: StudySteps) -> None:
    """Check the folds without the slides that do not open, unless all were tiled."""
    cohort, _ = read_cohorts(config)
    if tile.has_reached(steps.tile, cohort.rows):
        return
    checked = check_slides(cohort.rows, steps.tile.recipe)
    refused = sum(bool(one.header.refused) for one in checked)
    say(f"run: {len(checked)} slides opened, {refused} of them refused")
    check_without_refused(steps, cohort, checked)


def train(config: RunConfig, steps: StudySteps) -> int:
    """Tile, embed and sweep; returns the sweep's exit code."""
    cohort, new = read_cohorts(config)
    if new:
        write_slides(cohort, new, all_slides(config))
    config.out.mkdir(parents=True, exist_ok=True)
    write_text(config.out / "study.yaml", configs.to_yaml(config))
    scales = ", ".join(f"{mpp:g}" for mpp in steps.tile.scales)
    say_step(f"tile at {scales} um/px")
    tile.run(steps.tile)
    say_step(f"embed every tile: {config.encoder.name}")
    embed.run(steps.embed)
    given = steps.sweep
    num = given.search.parameters.get("points") or len(points.expand(given, given.axes))
    say_step(f"sweep {num} configs over {', '.join(steps.sweep.axes) or 'no axis'}")
    return sweep.run(steps.sweep)


def _predict(config: RunConfig, steps: StudySteps) -> dict[str, Path]:
    """Predict both cohorts with the chosen models; returns where, by what it is."""
    head, out = steps.sweep.out / "best", config.out / "predictions"
    say_step("predict the cohort, each slide by models that did not see its patient")
    keep_former(out, head)
    predict.run(steps.prediction(config.cohort, out, head))
    predicted = {"its predictions, out of fold": out}
    if config.new_cohort:
        out = config.out / "new_predictions"
        say_step("predict the new cohort")
        keep_former(out, head)
        predict.run(steps.prediction(config.new_cohort, out, head))
        predicted["predictions of the new cohort"] = out
    return predicted


def _places(what: str, out: Path) -> list[tuple[str, Path | str]]:
    maps = out / "heatmaps"
    none = "no heat maps: the chosen pooling gives single tiles no score"
    looks = maps if maps.is_dir() else none
    return [(what, out / "predictions.parquet"), ("where it looks", looks)]
