"""Sweep MIL configs with Ray Tune: a trial is one config over all folds and repeats.

Results are files, one folder per config named by its digest. What is finished is not
done again, so the same command goes on after a kill. Only this driver writes MLflow.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial

from mshisto_ray import config as configs
from mshisto_ray import tracking
from mshisto_ray.config import InputError, OutputPath, option
from mshisto_ray.distributed.progress import say
from mshisto_ray.distributed.session import Resources, connect, plan_actors
from mshisto_ray.distributed.sweep_trial import train_point
from mshisto_ray.mil import experiment, sweep
from mshisto_ray.mil.bags import Bags
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.sweep import AxesConfig, Outcome, Point
from mshisto_ray.reporting import sweep_summary
from mshisto_ray.store.manifest import check_stage, open_stage, write_text

STAGE = "sweep"
_MAX_RESTARTS = 2
_EVERY_S = 5.0


class SweepConfig(AxesConfig, ExperimentConfig):
    """Train a MIL config at every combination of axes, and compare them."""

    out: OutputPath = option(text="directory to make or to go on with")
    resources: Resources = Resources()
    mlflow: tracking.TrackingConfig = tracking.TrackingConfig()


def check(config: SweepConfig) -> None:
    """Check every point of the axes, input, labels, folds and ``out``."""
    sweep.check(sweep.expand(config, config.axes), config.select)
    check_stage(config.out, STAGE, {"stage": STAGE})


def run(config: SweepConfig) -> int:
    """Train a MIL config at every combination of axes, and compare them."""
    points, notes = sweep.check(sweep.expand(config, config.axes), config.select)
    # Other axes may come later into the same directory: configs are told apart by
    # their digests, so its recipe is only that it holds a sweep.
    recorded = config.model_dump(mode="json")
    with open_stage(config.out, STAGE, {"stage": STAGE}, recorded):
        return _run(config, points, notes)


def _run(config: SweepConfig, points: Mapping[str, Point], notes: list[str]) -> int:
    bags, splits = experiment.check(next(iter(points.values())).config)
    for note in notes:
        say(f"sweep: {note}")
    experiment.write_folds(config.out / "folds.parquet", bags, splits)
    write_text(config.out / "sweep.yaml", configs.to_yaml(config))
    finished = [d for d in points if _metrics(config.out, d)]
    pending = {d: p for d, p in points.items() if d not in finished}
    say(f"sweep: {len(finished)} configs stand, {len(pending)} to do -> {config.out}")
    errors = _train(config, pending) if pending else {}
    outcomes = [
        Outcome(digest, point, _metrics(config.out, digest), errors.get(digest))
        for digest, point in points.items()
    ]
    return _conclude(config, outcomes, bags)


def _metrics(out: Path, digest: str) -> dict[str, float] | None:
    return experiment.read_metrics(sweep.folder(out, digest))


def _train(config: SweepConfig, pending: Mapping[str, Point]) -> dict[str, str]:
    """Run the pending configs; why the failed ones failed, by digest."""
    # Tune's own files are of no use here: results are written by the trials.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one ignores verbose=0
    # A worker that died is told by this driver, in one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    state = config.out / ".tune"
    for leftover in (state, *(config.out / "configs").glob(".*.tmp")):
        shutil.rmtree(leftover, ignore_errors=True)
    with connect():
        plan = plan_actors(config.resources, use_gpu=True)
        work = {d: p.config.model_dump(mode="json") for d, p in pending.items()}
        trainable = tune.with_parameters(
            train_point, work=work, out=config.out, threads=plan.threads
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": plan.cpus, "gpu": plan.gpus}),
            param_space={"digest": tune.grid_search(list(work))},
            # A new actor for every trial would import torch anew: seconds for a
            # small model.
            tune_config=tune.TuneConfig(
                reuse_actors=True, max_concurrent_trials=plan.actors
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(state),
                failure_config=tune.FailureConfig(max_failures=_MAX_RESTARTS),
                callbacks=[_Progress(pending, config.out)],
                verbose=0,
            ),
        )
        results = tuner.fit()
    shutil.rmtree(state, ignore_errors=True)
    errors = {}
    for result in results:
        digest = (result.config or {})["digest"]
        error = (result.metrics or {}).get("error") or result.error
        if error:
            errors[digest] = str(error)
    return errors


class _Progress(Callback):
    """A line per finished config, and one every few seconds between them."""

    def __init__(self, pending: Mapping[str, Point], out: Path):
        self._pending = pending
        self._out = out
        self._models: dict[str, int] = {}
        self._ended = 0
        self._printed = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list, trial: Trial, result: dict, **info: Any
    ) -> None:
        """A fold is done."""
        self._models[trial.trial_id] = result["models"]
        if time.monotonic() - self._printed > _EVERY_S:
            models = sum(self._models.values())
            say(f"sweep: {self._ended}/{len(self._pending)} configs, {models} models")
            self._printed = time.monotonic()

    def on_trial_complete(
        self, iteration: int, trials: list, trial: Trial, **info: Any
    ) -> None:
        """A config is done, or has said why it cannot be."""
        self._say_end(trial.config["digest"])

    def on_trial_error(
        self, iteration: int, trials: list, trial: Trial, **info: Any
    ) -> None:
        """A config's process ended, more often than it is restarted."""
        self._say_end(trial.config["digest"])

    def _say_end(self, digest: str) -> None:
        self._ended += 1
        found = _metrics(self._out, digest)
        text = f"test AUROC {found['test_auroc_mean']:.3f}" if found else "no result"
        label = self._pending[digest].label
        say(f"sweep: {self._ended}/{len(self._pending)} configs, {label}: {text}")
        self._printed = time.monotonic()


def _conclude(config: SweepConfig, outcomes: Sequence[Outcome], bags: Bags) -> int:
    """Summary, plot, best head and MLflow; the exit code."""
    ranked = sweep.rank(outcomes, config.select)
    failed = [o for o in outcomes if not o.metrics]
    for outcome in failed:
        reason = (outcome.error or "no result").strip()
        say(f"sweep: failed: {outcome.point.label}: {reason}")
    if not ranked:
        raise InputError(f"no config of {config.out} has a result; see above")
    text = sweep_summary.summary(ranked, failed, config.select)
    write_text(config.out / "summary.md", text)
    sweep_summary.plot(config.out / "test_auroc.png", ranked, bool(config.select))
    best = _keep_best(config, ranked[0]) if config.select else None
    _log(config, ranked, bags, best)
    if best:
        say(f"sweep: chosen by val_{config.select}: {ranked[0].point.label} -> {best}")
    say(f"sweep: {config.out / 'summary.md'}")
    return 1 if failed else 0


def _keep_best(config: SweepConfig, chosen: Outcome) -> Path:
    """A copy of the chosen config's head as ``out/best``."""
    best = config.out / "best"
    temporary = config.out / ".best.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    head = sweep.folder(config.out, chosen.digest) / experiment.HEAD_FOLDER
    shutil.copytree(head, temporary)
    shutil.rmtree(best, ignore_errors=True)
    os.rename(temporary, best)
    return best


def _log(
    config: SweepConfig, ranked: Sequence[Outcome], bags: Bags, best: Path | None
) -> None:
    """A parent run with a child per config; those that are there already stand."""
    store = tracking.open_store(config.mlflow.uri, config.out, config.mlflow.experiment)
    digests = sorted(outcome.digest for outcome in ranked)
    text = json.dumps([str(config.out), config.select, digests])
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    tags = {"embeddings_digest": bags.digest, "labels_digest": bags.identity}
    parent = store.find_run("sweep", key)
    if parent is None:
        settings = config.model_dump(mode="json", exclude={"mlflow", "out"})
        artifacts = [config.out / "summary.md", config.out / "test_auroc.png"]
        parent = store.log_run(
            config.out.name,
            settings,
            {"configs": len(ranked)},
            {"sweep": key, **tags},
            artifacts + ([best] if best else []),
        )
    for place, outcome in enumerate(ranked):
        name = f"{key}-{outcome.digest}"
        if store.find_run("config", name) is not None:
            continue
        assert outcome.metrics
        settings = outcome.point.config.model_dump(mode="json", exclude={"cache"})
        chosen = str(bool(best) and place == 0).lower()
        store.log_run(
            outcome.point.label,
            settings,
            outcome.metrics,
            {"config": name, "chosen": chosen, **tags},
            parent=parent,
        )
    say(f"sweep: {store.view_command()}")
