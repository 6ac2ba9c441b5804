"""Sweep MIL models or tile heads with Ray Tune; a trial is one config.

Results are files, one folder per config named by its digest. Finished configs are
skipped, so the same command resumes after a kill. Only this driver writes MLflow.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs._decisions import (
    DECISIONS,
    check_tile_decision,
    keep_decision,
)
from mshisto_ray.jobs._left_out import write_left_out
from mshisto_ray.jobs._report import write_report
from mshisto_ray.jobs._sweep_config import AnySweepConfig, TileSweepConfig
from mshisto_ray.jobs._sweep_ranking import (
    NOISE,
    is_done,
    pruned_of,
    read_ranking,
    tried,
    write_failed,
)
from mshisto_ray.jobs._sweep_report import (
    COMPARISONS,
    SUMMARY,
    SweepReport,
    make_report,
    plot_name,
)
from mshisto_ray.jobs._sweep_reruns import (
    cost_of,
    rerun_metrics,
    train_again,
    with_reruns,
    write_reruns,
)
from mshisto_ray.jobs._sweep_runs import SweepRuns
from mshisto_ray.learning import result_files
from mshisto_ray.learning.retraining.thinning import check_sizes
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.sweep import points as sweep
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.learning.sweep.packs import pack_size
from mshisto_ray.learning.sweep.point_source import PointSource
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.sweep.results import PointResult
from mshisto_ray.progress import say
from mshisto_ray.reporting import sweep_plot, sweep_summary, sweep_tables
from mshisto_ray.reporting.decisions import (
    WITHIN_FOLDS,
    decision_section,
    save_decisions,
)
from mshisto_ray.reporting.learning_curve import rerun_sections
from mshisto_ray.reporting.noise_curve import plot_noise
from mshisto_ray.reporting.page.ranking import SweepRanking
from mshisto_ray.store.manifest import check_stage, open_stage, write_text
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tracking import Model, Store, register_model

STAGE = "sweep"
_WRITTEN = (SUMMARY, COMPARISONS, NOISE, DECISIONS, "sweep.yaml")


def check(config: AnySweepConfig) -> None:
    """Check every point of the axes, input, labels, folds and ``out``."""
    points = sweep.expand(config, config.axes, config.search)
    sweep.check(points, config.chosen_by)
    data, splits = points[0].config.check()
    if config.learning_curve:
        rows, seed = config.rows(data), config.split_config.seed
        check_sizes(rows, splits, seed, config.learning_curve)
    if isinstance(config, TileSweepConfig):
        _check_decision(config, data, splits)
    _check_pruning(config, splits)
    check_stage(config.out, STAGE, {"stage": STAGE})


def _check_pruning(config: AnySweepConfig, splits: Sequence[Split]) -> None:
    if config.prune and not config.prune.rungs(len(splits)):
        raise InputError(
            f"prune.grace={config.prune.grace}: a config has {len(splits)} models, so "
            "none is ever pruned: give fewer, or prune=null"
        )


def _check_decision(
    config: TileSweepConfig, data: TileSamples, splits: Sequence[Split]
) -> None:
    share = config.split.validation
    check_tile_decision(config.decision.for_tiles, data.classes, splits, share)


def run(config: AnySweepConfig) -> int:
    """Train MIL models or tile heads at points of some axes, and compare them."""
    source = PointSource(config, config, config.out)
    # Other axes may be added to the directory later: configs are identified by their
    # digests, so its recipe only marks it as a sweep.
    recorded = config.model_dump(mode="json")
    with open_stage(config.out, STAGE, {"stage": STAGE}, recorded):
        return _run(config, source)


def _run(config: AnySweepConfig, source: PointSource) -> int:
    store = config.runtime.open_store(config.out)  # before work that it is to record
    data, splits = source.first.check()
    if isinstance(config, TileSweepConfig):
        _check_decision(config, data, splits)
    for note in source.notes:
        say(f"sweep: {note}")
    write_left_out("sweep", config.out, data.failures)
    source.first.write_folds(config.out / "folds.parquet", data, splits)
    write_text(config.out / "sweep.yaml", configs.to_yaml(config))
    pending = source.remaining(partial(is_done, config))
    done, total = source.total - pending, source.total
    say(f"sweep: {done} of {total} configs already done -> {config.out}")
    cost = cost_of(config, total, len(splits))
    if cost:
        say(f"sweep: {cost}")
    pruned = partial(pruned_of, config)
    with SweepRuns(
        config.out, store, source.points, source.first.kind, data, pruned
    ) as runs:
        num = len(splits)
        errors = _train(config, source, pending, num, runs) if pending else {}
        write_failed(config, source, errors)
        found = read_ranking(config, source)
        for outcome in found.failed:
            reason = (outcome.error or "no result").strip()
            say(f"sweep: failed: {outcome.point.label}: {reason}")
        if found.not_run or found.not_suggested:
            num = len(found.not_run) + found.not_suggested
            say(f"sweep: {num} configs were not run; the same command resumes")
        if not found.ranked:
            raise InputError(f"no config of {config.out} has a result; see above")
        train_again(config, found, data, splits)
        found = with_reruns(config, found)
        return _conclude(config, store, found, source.notes, runs)


def _train(
    config: AnySweepConfig,
    source: PointSource,
    pending: int,
    num_models: int,
    runs: SweepRuns,
) -> dict[str, str]:
    # Ray Tune takes seconds to import, which --check and a finished sweep save.
    from mshisto_ray.distributed.trials import WantedTrials, run_trials

    metric = config.chosen_by

    def take(workers: int) -> dict[str, Point]:
        most = config.pack or pack_size(num_models, pending, workers)
        # What ends a config early looks at its models one after another.
        most = 1 if config.prune else most
        return source.take(partial(is_done, config), partial(tried, config), most)

    wanted = WantedTrials(
        config.point_class(),
        source.points,
        take,
        pending,
        metric,
        metric in config.kind.lower_is_better,
        config.refits,
        config.budget.minutes,
        config.prune,
    )
    return run_trials(config.out, wanted, config.runtime, runs)


def read_report(config: AnySweepConfig, folder: Path) -> SweepReport:
    """The report of a finished sweep, with paths relative to a folder."""
    source = PointSource(config, config, config.out)
    found = with_reruns(config, read_ranking(config, source))
    return make_report(config, found, source.notes, folder)


def _conclude(
    config: AnySweepConfig,
    store: Store,
    found: SweepRanking,
    notes: Sequence[str],
    runs: SweepRuns,
) -> int:
    """Write summary, plots, best head and MLflow's parent; return the exit code."""
    ranked = found.ranked
    doubtful = [outcome.point.label for outcome in ranked if outcome.warnings]
    if doubtful:
        say(
            f"sweep: warning: {len(doubtful)} of {len(ranked)} configs are hardly "
            "trained and say little, for the reasons in summary.md: "
            + "; ".join(doubtful)
        )
    _write_tables(config, found)
    curve = write_reruns(config.out, found)
    best = _keep_best(config, ranked[0]) if config.chosen_by else None
    report = make_report(config, found, notes, config.out.parent)
    page = write_report("sweep", config, config.out, report)
    written = [config.out / name for name in (*_WRITTEN, plot_name(config))]
    written = [path for path in (*written, *curve, *page) if path.exists()]
    parent, answer = runs.conclude(found, written, rerun_metrics(found))
    say(f"sweep: {store.view_command()}")
    say(f"sweep: all configs, the best first: {store.address(parent)}")
    if best:
        _register(config, store, runs.parent, best, answer)
        chosen = ranked[0].point.label
        others = len(ranked) > 1
        how = f"chosen by val_{config.chosen_by}" if others else "the only config"
        say(f"sweep: {how}: {chosen} -> {best}")
    say(f"sweep: {config.out / SUMMARY}")
    lost = found.not_run and config.budget.minutes is None
    return 1 if found.failed or lost else 0


def _write_tables(config: AnySweepConfig, found: SweepRanking) -> None:
    given = found.ranked, found.failed, config.chosen_by, found.compared, found.nested
    text = sweep_summary.summary(*given, found.refits, found.unfinished)
    text += rerun_sections(found.curve, found.permuted)
    if found.decisions and config.decides:
        about = (WITHIN_FOLDS,)
        text += decision_section(found.decisions, config.decides, about)
        save_decisions(config.out / DECISIONS, found.decisions)
    write_text(config.out / SUMMARY, text)
    if config.chosen_by:
        table = sweep_tables.comparison_table(found.ranked, found.compared)
        write_text(config.out / COMPARISONS, table)
    metric = config.chosen_by or config.kind.chooses
    title = config.kind.titles[metric]
    plot_noise(config.out / NOISE, found.ranked, metric, title)
    chosen = bool(config.chosen_by)
    sweep_plot.plot(found.plot, found.ranked, chosen, found.compared)


def _keep_best(config: AnySweepConfig, chosen: PointResult) -> Path:
    """Copy the chosen config's head to ``out/best``."""
    best = config.out / "best"
    temporary = config.out / ".best.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    folder = sweep_results.folder(config.out, chosen.digest)
    shutil.copytree(folder / result_files.HEAD_FOLDER, temporary)
    trained = chosen.point.config
    if config.decides:
        keep_decision(temporary, config.decides, trained, folder, best)
    shutil.rmtree(best, ignore_errors=True)
    os.rename(temporary, best)
    return best


def _register(
    config: AnySweepConfig, store: Store, parent: str, best: Path, about: str
) -> None:
    """Make the chosen head the champion of the sweep's registered model."""
    head = config.head_facts(best)
    name = f"{config.runtime.mlflow.experiment}-{config.out.name}"
    text = about.replace("**", "")  # tables of models show no Markdown
    model = Model(name, best, head.digest, head.dim, head.classes, text)
    reference = register_model(store, parent, model)
    say(f"sweep: registered for predict: head={reference}")
