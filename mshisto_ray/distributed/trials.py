"""Ray Tune: a trial is a config over all folds and repeats, or several of one shape.

A trial's result is files; Tune starts processes, restarts them, and reports their end.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ray import tune

from mshisto_ray.config import InputError
from mshisto_ray.distributed.room import wait_for_room
from mshisto_ray.distributed.session import connect
from mshisto_ray.distributed.trial_points import HandOut, Pruner
from mshisto_ray.distributed.trial_progress import SweepProgress, Watch
from mshisto_ray.distributed.trial_worker import train_points
from mshisto_ray.distributed.workers import plan_actors
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.sweep.pruning import PruningConfig, read_pruned
from mshisto_ray.learning.sweep.rungs import Rungs
from mshisto_ray.runtime import Resources

_MAX_RESTARTS = 2
_NO_MEMORY = (
    "Ray ended workers, as a node ran low on memory: end other programs there, or give "
    "fewer runtime.actors; the same command resumes"
)


@dataclass(frozen=True)
class WantedTrials:
    """What a sweep trains.

    Attributes:
        kind: class of the configs.
        points: configs by digest; a search adds to them.
        take: the next points to train at once, given the number of workers; empty:
            there is none.
        total: how many are to be trained.
        metric: of the target, that chooses.
        lower: whether lower is better.
        refits: redraws of the patients on which each config is trained anew.
        minutes: after which no further config is begun.
        prune: when configs are ended early.
    """

    kind: type[Experiment]
    points: Mapping[str, Point]
    take: Callable[[int], Mapping[str, Point]]
    total: int
    metric: str | None = None
    lower: bool = False
    refits: int = 0
    minutes: float | None = None
    prune: PruningConfig | None = None


def run_trials(
    out: Path, wanted: WantedTrials, resources: Resources, watch: Watch
) -> dict[str, str]:
    """Train the configs of a sweep; returns why the failed ones failed, by digest.

    Args:
        out: directory of the sweep.
        wanted: the configs.
        resources: of a trial, and how many run at once.
        watch: is called in this process.
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
        progress = SweepProgress(
            wanted.points,
            wanted.total,
            out,
            watch,
            lambda digest: read_pruned(out, digest, wanted.prune, wanted.metric),
        )
        tuner = _make_tuner(out, wanted, resources, state, progress)
        try:
            tuner.fit()
        except RuntimeError as error:  # Tune's word for an error it does not expect
            if "low on memory" not in str(error):
                raise
            raise InputError(_NO_MEMORY) from None
    shutil.rmtree(state, ignore_errors=True)
    return progress.errors


def _make_tuner(
    out: Path,
    wanted: WantedTrials,
    resources: Resources,
    state: Path,
    progress: SweepProgress,
) -> tune.Tuner:
    plan = plan_actors(resources, use_gpu=True)
    wait_for_room(plan)
    trainable = tune.with_parameters(
        train_points,
        kind=wanted.kind,
        out=out,
        threads=plan.threads,
        refits=wanted.refits,
        prune=wanted.prune,
        metric=wanted.metric,
    )
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": plan.cpus, "gpu": plan.gpus}),
        # A new actor for every trial would import torch anew: seconds for a small
        # model.
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=plan.actors,
            search_alg=HandOut(lambda: wanted.take(plan.actors), wanted.minutes),
            scheduler=Pruner(_rungs(out, wanted)),
            num_samples=-1,  # as many as are handed out
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(state),
            failure_config=tune.FailureConfig(max_failures=_MAX_RESTARTS),
            callbacks=[progress],
            verbose=0,
        ),
    )


def _rungs(out: Path, wanted: WantedTrials) -> Rungs | None:
    if wanted.prune is None or wanted.metric is None:
        return None
    found = Rungs(out, wanted.prune, wanted.metric, wanted.lower)
    found.read(wanted.points)
    return found
