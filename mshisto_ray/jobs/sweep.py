"""Sweep MIL configs with Ray Tune: a trial is one config over all folds and repeats.

Results are files, one folder per config named by its digest. Finished configs are
skipped, so the same command resumes after a kill. Only this driver writes MLflow.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs._decisions import DECISIONS, decided, keep_decision
from mshisto_ray.jobs._report import write_report
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.jobs._sweep_report import (
    COMPARISONS,
    SUMMARY,
    SweepReport,
    plot_name,
)
from mshisto_ray.jobs._sweep_reruns import (
    rerun_metrics,
    train_again,
    with_reruns,
    write_reruns,
)
from mshisto_ray.jobs._sweep_runs import SweepRuns
from mshisto_ray.mil import experiment, experiment_result, sweep, sweep_results
from mshisto_ray.mil.head import head_digest, load_head
from mshisto_ray.mil.refits import RefitInterval, num_refits, refit_interval
from mshisto_ray.mil.sweep import Point
from mshisto_ray.mil.sweep_results import PointResult
from mshisto_ray.mil.thinning import check_sizes
from mshisto_ray.progress import say
from mshisto_ray.reporting import sweep_plot, sweep_summary, sweep_tables
from mshisto_ray.reporting.decisions import (
    WITHIN_FOLDS,
    decision_section,
    save_decisions,
)
from mshisto_ray.reporting.learning_curve import rerun_sections
from mshisto_ray.reporting.noise_curve import plot_noise
from mshisto_ray.reporting.page.ranking import SweepRanking, out_of_fold_metrics
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.manifest import check_stage, open_stage, write_text
from mshisto_ray.tracking import Model, Store, register_model

STAGE = "sweep"
_NOISE = "noise.png"
_WRITTEN = (SUMMARY, COMPARISONS, _NOISE, DECISIONS, "sweep.yaml")


def check(config: SweepConfig) -> None:
    """Check every point of the axes, input, labels, folds and ``out``."""
    points, _ = sweep.check(sweep.expand(config, config.axes), config.chosen_by)
    if config.learning_curve:
        bags, splits = experiment.check(next(iter(points.values())).config)
        check_sizes(bags, splits, config.split.seed, config.learning_curve)
    check_stage(config.out, STAGE, {"stage": STAGE})


def run(config: SweepConfig) -> int:
    """Train a MIL config at every combination of axes, and compare them."""
    points, notes = sweep.check(sweep.expand(config, config.axes), config.chosen_by)
    # Other axes may be added to the directory later: configs are identified by their
    # digests, so its recipe only marks it as a sweep.
    recorded = config.model_dump(mode="json")
    with open_stage(config.out, STAGE, {"stage": STAGE}, recorded):
        return _run(config, points, notes)


def _run(config: SweepConfig, points: Mapping[str, Point], notes: list[str]) -> int:
    store = config.runtime.open_store(config.out)  # before work that it is to record
    bags, splits = experiment.check(next(iter(points.values())).config)
    for note in notes:
        say(f"sweep: {note}")
    experiment_result.write_folds(config.out / "folds.parquet", bags, splits)
    write_text(config.out / "sweep.yaml", configs.to_yaml(config))
    finished = [d for d in points if _is_finished(config, d)]
    pending = {d: p for d, p in points.items() if d not in finished}
    done, total = len(finished), len(points)
    say(f"sweep: {done} of {total} configs already done -> {config.out}")
    with SweepRuns(config.out, store, points, bags) as runs:
        errors = {}
        if pending:
            # Ray Tune takes seconds to import, which --check and a finished sweep save.
            from mshisto_ray.distributed.trials import run_trials

            errors = run_trials(
                config.out, pending, config.runtime, runs, config.refits
            )
        found = _rank(config, points, errors)
        for outcome in found.failed:
            reason = (outcome.error or "no result").strip()
            say(f"sweep: failed: {outcome.point.label}: {reason}")
        if not found.ranked:
            raise InputError(f"no config of {config.out} has a result; see above")
        train_again(config, found, bags, splits)
        return _conclude(config, store, with_reruns(config, found), notes, runs)


def _is_finished(config: SweepConfig, digest: str) -> bool:
    """Whether a config has its result, and the refits that are wanted."""
    if not sweep_results.read_metrics(config.out, digest):
        return False
    folder = sweep_results.folder(config.out, digest)
    return not config.refits or num_refits(folder) == config.refits


def read_report(config: SweepConfig, folder: Path) -> SweepReport:
    """The report of a finished sweep, with paths relative to a folder."""
    points, notes = sweep.check(sweep.expand(config, config.axes), config.chosen_by)
    found = with_reruns(config, _rank(config, points, {}))
    return SweepReport(config, found, notes, folder)


def _rank(
    config: SweepConfig, points: Mapping[str, Point], errors: Mapping[str, str]
) -> SweepRanking:
    """Read the results of all points; compare them with the best on validation."""
    outcomes = [
        PointResult(
            digest,
            point,
            sweep_results.read_metrics(config.out, digest),
            errors.get(digest),
        )
        for digest, point in points.items()
    ]
    ranked = sweep_results.rank(outcomes, config.chosen_by)
    failed = [o for o in outcomes if not o.metrics]
    select = config.chosen_by
    compared = (
        sweep_results.compare_with_first(config.out, ranked, select)
        if select and ranked
        else {}
    )
    nested = None
    if select:
        finished = [outcome for outcome in outcomes if outcome.metrics]
        nested = sweep_results.choose_nested(config.out, finished, select)
    plot = config.out / plot_name(config)
    decisions, refits = None, None
    if select and ranked:
        held = nested.value if nested else out_of_fold_metrics(ranked[0])[select]
        refits = _refits(config, outcomes, held)
        chosen = sweep_results.folder(config.out, ranked[0].digest)
        decisions = decided(chosen, config.decision)
    return SweepRanking(
        ranked, failed, select, compared, plot, nested, decisions, refits
    )


def _refits(
    config: SweepConfig, outcomes: Sequence[PointResult], held: Interval
) -> RefitInterval | None:
    """The interval that includes training and choosing, where refits are wanted."""
    if not config.refits or config.chosen_by is None:
        return None
    digests = [o.digest for o in outcomes if o.metrics]
    folders = {d: sweep_results.folder(config.out, d) for d in digests}
    return refit_interval(folders, held, config.chosen_by)


def _conclude(
    config: SweepConfig,
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
    report = SweepReport(config, found, notes, config.out.parent)
    page = write_report("sweep", config, config.out, report)
    written = [config.out / name for name in (*_WRITTEN, plot_name(config))]
    written = [path for path in (*written, *curve, *page) if path.exists()]
    parent, answer = runs.conclude(
        ranked,
        found.failed,
        config.chosen_by,
        found.compared,
        written,
        rerun_metrics(found),
        found.decisions,
    )
    say(f"sweep: {store.view_command()}")
    say(f"sweep: all configs, the best first: {store.address(parent)}")
    if best:
        _register(config, store, runs.parent, best, answer)
        chosen = ranked[0].point.label
        say(f"sweep: chosen by val_{config.chosen_by}: {chosen} -> {best}")
    say(f"sweep: {config.out / SUMMARY}")
    return 1 if found.failed else 0


def _write_tables(config: SweepConfig, found: SweepRanking) -> None:
    given = found.ranked, found.failed, config.chosen_by, found.compared, found.nested
    text = sweep_summary.summary(*given, found.refits)
    text += rerun_sections(found.curve, found.permuted)
    if found.decisions:
        about = (WITHIN_FOLDS,)
        text += decision_section(found.decisions, config.decision, about)
        save_decisions(config.out / DECISIONS, found.decisions)
    write_text(config.out / SUMMARY, text)
    if config.chosen_by:
        table = sweep_tables.comparison_table(found.ranked, found.compared)
        write_text(config.out / COMPARISONS, table)
    plot_noise(
        config.out / _NOISE,
        found.ranked,
        config.chosen_by or config.target.build().chooses,
    )
    chosen = bool(config.chosen_by)
    sweep_plot.plot(found.plot, found.ranked, chosen, found.compared)


def _keep_best(config: SweepConfig, chosen: PointResult) -> Path:
    """Copy the chosen config's head to ``out/best``."""
    best = config.out / "best"
    temporary = config.out / ".best.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    folder = sweep_results.folder(config.out, chosen.digest)
    shutil.copytree(folder / experiment_result.HEAD_FOLDER, temporary)
    keep_decision(temporary, config.decision, chosen.point.config, folder, best)
    shutil.rmtree(best, ignore_errors=True)
    os.rename(temporary, best)
    return best


def _register(
    config: SweepConfig, store: Store, parent: str, best: Path, about: str
) -> None:
    """Make the chosen head the champion of the sweep's registered model."""
    head = load_head(best)
    name = f"{config.runtime.mlflow.experiment}-{config.out.name}"
    model = Model(name, best, head_digest(best), head.dims[0], head.classes, about)
    reference = register_model(store, parent, model)
    say(f"sweep: registered for predict: head={reference}")
