"""Sweep MIL configs with Ray Tune: a trial is one config over all folds and repeats.

Results are files, one folder per config named by its digest. Finished configs are
skipped, so the same command resumes after a kill. Only this driver writes MLflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mshisto_ray import config as configs
from mshisto_ray.config import InputError, OutputPath, option
from mshisto_ray.distributed.trials import run_trials
from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.learning.intervals import METHOD
from mshisto_ray.mil import experiment, sweep
from mshisto_ray.mil.experiment import ExperimentConfig, ExperimentRuntime
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.sweep import AxesConfig, Point, PointResult
from mshisto_ray.progress import say
from mshisto_ray.reporting import sweep_summary
from mshisto_ray.runtime import Resources
from mshisto_ray.store.manifest import check_stage, open_stage, write_text
from mshisto_ray.tracking import Store

STAGE = "sweep"
_COMPARISONS, _PLOT = "comparisons.csv", "test_auroc.png"


class SweepRuntime(ExperimentRuntime, Resources):
    """Workers, node cache and MLflow runs of a sweep."""


class SweepConfig(AxesConfig, ExperimentConfig):
    """Train a MIL config at every combination of axes, and compare them."""

    out: OutputPath = option(text="output directory; an unfinished one is resumed")
    runtime: SweepRuntime = SweepRuntime()  # pyright: ignore[reportIncompatibleVariableOverride]


def check(config: SweepConfig) -> None:
    """Check every point of the axes, input, labels, folds and ``out``."""
    sweep.check(sweep.expand(config, config.axes), config.select)
    check_stage(config.out, STAGE, {"stage": STAGE})


def run(config: SweepConfig) -> int:
    """Train a MIL config at every combination of axes, and compare them."""
    points, notes = sweep.check(sweep.expand(config, config.axes), config.select)
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
    experiment.write_folds(config.out / "folds.parquet", bags, splits)
    write_text(config.out / "sweep.yaml", configs.to_yaml(config))
    finished = [d for d in points if sweep.read_metrics(config.out, d)]
    pending = {d: p for d, p in points.items() if d not in finished}
    done, total = len(finished), len(points)
    say(f"sweep: {done} of {total} configs already done -> {config.out}")
    errors = run_trials(config.out, pending, config.runtime) if pending else {}
    outcomes = [
        PointResult(
            digest, point, sweep.read_metrics(config.out, digest), errors.get(digest)
        )
        for digest, point in points.items()
    ]
    return _conclude(config, store, outcomes, bags)


def _conclude(
    config: SweepConfig, store: Store, outcomes: Sequence[PointResult], bags: Bags
) -> int:
    """Write summary, plot, best head and MLflow runs; return the exit code."""
    ranked = sweep.rank(outcomes, config.select)
    failed = [o for o in outcomes if not o.metrics]
    for outcome in failed:
        reason = (outcome.error or "no result").strip()
        say(f"sweep: failed: {outcome.point.label}: {reason}")
    if not ranked:
        raise InputError(f"no config of {config.out} has a result; see above")
    doubtful = [outcome.point.label for outcome in ranked if outcome.warnings]
    if doubtful:
        say(
            f"sweep: warning: {len(doubtful)} of {len(ranked)} configs are hardly "
            "trained and say little, for the reasons in summary.md: "
            + "; ".join(doubtful)
        )
    compared = (
        sweep.compare_with_first(config.out, ranked, config.select)
        if config.select
        else {}
    )
    _write_tables(config, ranked, failed, compared)
    best = _keep_best(config, ranked[0]) if config.select else None
    _log(config, store, ranked, bags, best, compared)
    if best:
        say(f"sweep: chosen by val_{config.select}: {ranked[0].point.label} -> {best}")
    say(f"sweep: {config.out / 'summary.md'}")
    return 1 if failed else 0


def _write_tables(
    config: SweepConfig,
    ranked: Sequence[PointResult],
    failed: Sequence[PointResult],
    compared: Mapping[str, Comparison],
) -> None:
    text = sweep_summary.summary(ranked, failed, config.select, compared)
    write_text(config.out / "summary.md", text)
    if config.select:
        table = sweep_summary.comparison_table(ranked, compared)
        write_text(config.out / _COMPARISONS, table)
    sweep_summary.plot(config.out / _PLOT, ranked, bool(config.select), compared)


def _keep_best(config: SweepConfig, chosen: PointResult) -> Path:
    """Copy the chosen config's head to ``out/best``."""
    best = config.out / "best"
    temporary = config.out / ".best.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    head = sweep.folder(config.out, chosen.digest) / experiment.HEAD_FOLDER
    shutil.copytree(head, temporary)
    shutil.rmtree(best, ignore_errors=True)
    os.rename(temporary, best)
    return best


def _log(
    config: SweepConfig,
    store: Store,
    ranked: Sequence[PointResult],
    bags: Bags,
    best: Path | None,
    compared: Mapping[str, Comparison],
) -> None:
    """Log a parent run with a child per config; existing runs are kept."""
    digests = sorted(outcome.digest for outcome in ranked)
    text = json.dumps([str(config.out), config.select, digests])
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    tags = {"embeddings_digest": bags.digest, "labels_digest": bags.identity}
    parent = store.find_run("sweep", key)
    if parent is None:
        settings = config.model_dump(mode="json", exclude={"runtime", "out"})
        written = ("summary.md", _PLOT, *((_COMPARISONS,) if best else ()))
        artifacts = [config.out / name for name in written]
        parent = store.log_run(
            config.out.name,
            settings,
            {"configs": len(ranked)},
            {"sweep": key, "intervals": METHOD, **tags},
            artifacts + ([best] if best else []),
        )
    for place, outcome in enumerate(ranked):
        name = f"{key}-{outcome.digest}"
        if store.find_run("config", name) is not None:
            continue
        assert outcome.metrics
        settings = outcome.point.config.model_dump(mode="json", exclude={"runtime"})
        chosen = str(bool(best) and place == 0).lower()
        about = {"config": name, "chosen": chosen}
        if outcome.warnings:
            about["warnings"] = " ".join(outcome.warnings)
        store.log_run(
            outcome.point.label,
            settings,
            {**outcome.metrics, **_difference(compared.get(outcome.digest))},
            about | tags,
            parent=parent,
        )
    say(f"sweep: {store.view_command()}")


def _difference(found: Comparison | None) -> dict[str, float]:
    """Metrics of a config's difference from the chosen one."""
    if found is None:
        return {}
    name = f"test_{found.metric}_difference"
    return {
        name: found.difference.value,
        f"{name}_ci_low": found.difference.low,
        f"{name}_ci_high": found.difference.high,
        f"{name}_p_holm": found.p_holm,
    }
