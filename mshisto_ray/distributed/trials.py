"""Ray Tune: every config of a sweep is a trial over all folds and repeats.

A trial's result is files; Tune starts processes, restarts them, and reports their end.
Workers import this file, so it imports no plots and no MLflow.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.distributed.room import wait_for_room
from mshisto_ray.distributed.session import connect
from mshisto_ray.distributed.workers import plan_actors
from mshisto_ray.mil import experiment, sweep_results
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.input.bags import Bags, read_bags
from mshisto_ray.mil.refits import num_refits, run_refits
from mshisto_ray.mil.sweep import Point
from mshisto_ray.progress import CountBar, say
from mshisto_ray.runtime import Resources

_REPORT_EVERY_S = 2.0
_PRINT_EVERY_S = 5.0
_MAX_RESTARTS = 2
_NO_MEMORY = (
    "Ray ended workers, as a node ran low on memory: end other programs there, or give "
    "fewer runtime.actors; the same command resumes"
)
# What decides the bags of a trial.
_SOURCE = {
    "embeddings", "cohort", "bags", "scale", "scales", "unit", "target", "split",
    "runtime",
}  # fmt: skip


class Watch(Protocol):
    """Receives, in the driver, the start and the end of every config."""

    def started(self, digest: str) -> None:
        """Training begins; more than once where a worker died."""
        ...

    def ended(self, digest: str, error: str | None) -> None:
        """There is a result, or an error."""
        ...


def run_trials(
    out: Path,
    pending: Mapping[str, Point],
    resources: Resources,
    watch: Watch,
    refits: int = 0,
) -> dict[str, str]:
    """Train the configs of a sweep; returns why the failed ones failed, by digest.

    Args:
        out: directory of the sweep.
        pending: configs by digest.
        resources: of a trial, and how many run at once.
        watch: is called in this process.
        refits: redraws of the patients on which each config is trained anew.
    """
    # With Tune's own handler Ctrl-C makes `fit` return as if all trials had ended.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # Tune's own files are of no use here: results are written by the trials.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one ignores verbose=0
    # The driver reports a worker that died, in one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    state = out / ".tune"
    for leftover in (state, *(out / "configs").glob(".*.tmp")):
        shutil.rmtree(leftover, ignore_errors=True)
    with connect():
        tuner = _make_tuner(out, pending, resources, state, watch, refits)
        try:
            results = tuner.fit()
        except RuntimeError as error:  # Tune's word for an error it does not expect
            if "low on memory" not in str(error):
                raise
            raise InputError(_NO_MEMORY) from None
    shutil.rmtree(state, ignore_errors=True)
    errors = {}
    for result in results:
        digest = (result.config or {})["digest"]
        error = (result.metrics or {}).get("error") or result.error
        if error:
            errors[digest] = str(error)
    return errors


def _make_tuner(
    out: Path,
    pending: Mapping[str, Point],
    resources: Resources,
    state: Path,
    watch: Watch,
    refits: int,
) -> tune.Tuner:
    plan = plan_actors(resources, use_gpu=True)
    wait_for_room(plan)
    work = {d: p.config.model_dump(mode="json") for d, p in pending.items()}
    trainable = tune.with_parameters(
        train_point, work=work, out=out, threads=plan.threads, refits=refits
    )
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": plan.cpus, "gpu": plan.gpus}),
        param_space={"digest": tune.grid_search(list(work))},
        # A new actor for every trial would import torch anew: seconds for a small
        # model.
        tune_config=tune.TuneConfig(
            reuse_actors=True, max_concurrent_trials=plan.actors
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(state),
            failure_config=tune.FailureConfig(max_failures=_MAX_RESTARTS),
            callbacks=[_Progress(pending, out, watch)],
            verbose=0,
        ),
    )


class _Progress(Callback):
    """A line per finished config; between them a bar, or a line every few seconds."""

    def __init__(self, pending: Mapping[str, Point], out: Path, watch: Watch):
        self._pending = pending
        self._out = out
        self._watch = watch
        self._models: dict[str, int] = {}
        self._bar = CountBar("sweep", len(pending), "configs")
        self._best: dict[str, float] = {}
        self._ended = 0
        self._printed = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks to restore them; this one is never restored."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list, trial: Trial, **info: Any
    ) -> None:
        """Report a config whose training begins."""
        self._watch.started(trial.config["digest"])

    def on_trial_result(
        self, iteration: int, trials: list, trial: Trial, result: dict, **info: Any
    ) -> None:
        """Print the number of models done, at most every few seconds."""
        self._models[trial.trial_id] = result["models"]
        models = self._show()
        if self._bar.is_shown or time.monotonic() - self._printed <= _PRINT_EVERY_S:
            return
        say(f"sweep: {self._ended}/{len(self._pending)} configs, {models} models")
        self._printed = time.monotonic()

    def on_trial_complete(
        self, iteration: int, trials: list, trial: Trial, **info: Any
    ) -> None:
        """Print the line of a config that is done or has reported an error."""
        self._end(trial.config["digest"], (trial.last_result or {}).get("error"))

    def on_trial_error(
        self, iteration: int, trials: list, trial: Trial, **info: Any
    ) -> None:
        """Print the line of a config whose process ended once too often."""
        self._end(trial.config["digest"], str(trial.get_error()))

    def _show(self) -> int:
        """Move the bar; returns the number of models done."""
        models = sum(self._models.values())
        best = [f"best validation {name} {v:.3f}" for name, v in self._best.items()]
        self._bar.show(self._ended, ", ".join([f"{models} models", *best]))
        return models

    def _end(self, digest: str, error: str | None) -> None:
        self._ended += 1
        self._watch.ended(digest, error)
        found = sweep_results.read_metrics(self._out, digest)
        # Tests are for the end: who watches them chooses by them.
        text = "no result"
        if found:  # without inner folds there is no validation
            target = self._pending[digest].config.target.build()
            value = found.get(f"val_{target.chooses}_mean")
            title = target.titles[target.chooses]
            text = "done" if value is None else f"validation {title} {value:.3f}"
            if value is not None:
                better = min if target.chooses in target.lower_is_better else max
                self._best[title] = better(value, self._best.get(title, value))
        label = self._pending[digest].label
        line = f"sweep: {self._ended}/{len(self._pending)} configs, {label}: {text}"
        self._bar.say(line)
        self._show()
        self._printed = time.monotonic()


def train_point(
    config: dict[str, Any],
    work: Mapping[str, Any],
    out: Path,
    threads: int,
    refits: int = 0,
) -> None:
    """Train one config: write its folder, or report the error.

    What an earlier run has written is kept.

    Args:
        config: of the trial: ``digest`` of the config.
        work: configs by digest, as JSON values.
        out: directory of the sweep.
        threads: of torch.
        refits: see ``run_trials``.
    """
    torch.set_num_threads(threads)
    digest = config["digest"]

    reported = time.monotonic()

    def on_fold(done: int, total: int) -> None:
        nonlocal reported
        # A report waits for the driver.
        if done == total or time.monotonic() - reported > _REPORT_EVERY_S:
            tune.report({"models": done, "error": None})
            reported = time.monotonic()

    try:
        point = configs.validate(ExperimentConfig, work[digest])
        source = point.model_dump(mode="json", include=_SOURCE)
        bags = _read(json.dumps(source, sort_keys=True))
        folder = sweep_results.folder(out, digest)
        if not sweep_results.read_metrics(out, digest):
            splits = plan_splits(bags, point.split, point)
            experiment.run(point, bags, splits, folder, on_fold)
        if refits and num_refits(folder) != refits:
            run_refits(folder, bags, point.split, point, refits, on_fold)
    except InputError as error:
        tune.report({"models": 0, "error": str(error)})
    except Exception:
        tune.report({"models": 0, "error": traceback.format_exc()})


@functools.lru_cache(maxsize=2)
def _read(source: str) -> Bags:
    """Bags of an input; the trials of one process share them."""
    config = configs.validate(ExperimentConfig, json.loads(source))
    return read_bags(
        config,
        config.target,
        config.split.column,
        config.runtime.cache,
        config.split.group,
    )
