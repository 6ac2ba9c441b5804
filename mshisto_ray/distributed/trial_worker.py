"""A trial of a sweep: one config over all folds and repeats, in a worker of Ray Tune.

Its result is files. Workers import this file, so it imports no plots and no MLflow.
"""

from __future__ import annotations

import functools
import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray import tune

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.learning.sweep.nested_choice import score_of
from mshisto_ray.learning.sweep.pruning import PruningConfig
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.refits import num_refits, run_refits

_REPORT_EVERY_S = 2.0


def train_point(
    config: dict[str, Any],
    kind: type[Experiment],
    out: Path,
    threads: int,
    refits: int = 0,
    prune: PruningConfig | None = None,
    metric: str | None = None,
) -> None:
    """Train one config: write its folder, or report the error.

    What an earlier run has written is kept.

    Args:
        config: of the trial: ``digest`` of the config, and the config as JSON
            (``point``).
        kind: class of the config.
        out: directory of the sweep.
        threads: of torch.
        refits: see ``run_trials``; of MIL models.
        prune: when to report what the models have on validation, for a decision; of
            MIL models.
        metric: of the target, by which is decided.
    """
    torch.set_num_threads(threads)
    try:
        point = configs.validate(kind, json.loads(config["point"]))
        data = _read(_DataOf(point.source(), point))
        folder = sweep_results.folder(out, config["digest"])
        report, done = _Reports(), sweep_results.read_metrics(out, config["digest"])
        if not isinstance(point, ExperimentConfig):
            if not done:
                point.train(data, folder, report.trained)
            return
        if not done:
            report = _train_bags(point, data, folder, prune, metric)
        if refits and num_refits(folder) != refits:
            run_refits(folder, data, point.split, point, refits, report.trained)
    except InputError as error:
        tune.report({"models": 0, "error": str(error)})
    except Exception:
        tune.report({"models": 0, "error": traceback.format_exc()})


def _train_bags(
    point: ExperimentConfig,
    bags: Bags,
    folder: Path,
    prune: PruningConfig | None,
    metric: str | None,
) -> _Reports:
    """Train the models of a config, and report them where they may be pruned."""
    splits = plan_splits(bags, point.split, point)
    stages = prune.rungs(len(splits)) if prune and metric else []
    report = _Reports(metric, stages, len(splits))
    given = (point, bags, splits, folder)
    experiment.run(*given, report.trained, report.validated, stages)
    return report


class _Reports:
    """Reports of a trial to the driver, which each waits for.

    Where the driver prunes the trial, the report does not return.
    """

    def __init__(
        self, metric: str | None = None, stages: Sequence[int] = (), total: int = 0
    ):
        self._metric, self._stages, self._total = metric, stages, total
        self._values: list[float] = []
        self._reported = time.monotonic()

    def trained(self, done: int, total: int) -> None:
        """Report the number of models, every few seconds and at the end."""
        if done == total or time.monotonic() - self._reported > _REPORT_EVERY_S:
            tune.report({"models": done, "error": None})
            self._reported = time.monotonic()

    def validated(self, validation: Predictions) -> None:
        """Report what the models have on validation, where is decided by it."""
        if not self._stages or self._metric is None:
            return
        self._values.append(score_of(validation, self._metric))
        if (done := len(self._values)) in self._stages:
            # Flat, as Tune's scheduler gets its results.
            found = {"validated": list(self._values), "total": self._total}
            tune.report({"models": done, "error": None, **found})


@dataclass(frozen=True)
class _DataOf:
    """The data of a config, known by ``Experiment.source``."""

    key: str
    config: Experiment = field(compare=False)


@functools.lru_cache(maxsize=2)
def _read(source: _DataOf) -> Any:
    """Data of a config; the trials of one process share them."""
    return source.config.load()
