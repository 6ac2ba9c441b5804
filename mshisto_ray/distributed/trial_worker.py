"""A trial of a sweep: configs over all folds and repeats, in a worker of Ray Tune.

Its result is files. Workers import this file, so it imports no plots and no MLflow.
"""

from __future__ import annotations

import functools
import json
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray import tune

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.retraining.refits import num_refits, run_refits
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.learning.sweep.nested_choice import score_of
from mshisto_ray.learning.sweep.pruning import PruningConfig
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.experiment_pack import run_pack
from mshisto_ray.mil.input.bags import Bags

_REPORT_EVERY_S = 2.0


def train_points(
    config: dict[str, Any],
    kind: type[Experiment],
    out: Path,
    threads: int,
    refits: int = 0,
    prune: PruningConfig | None = None,
    metric: str | None = None,
) -> None:
    """Train configs, one or a pack; write their folders, or report their errors.

    What an earlier run has written is kept.

    Args:
        config: of the trial: ``digests`` of the configs, and these as JSON
            (``points``).
        kind: class of the configs.
        out: directory of the sweep.
        threads: of torch.
        refits: see ``run_trials``.
        prune: when to report what the models have on validation, for a decision.
        metric: of the target, by which is decided.
    """
    torch.set_num_threads(threads)
    report = _Reports()
    texts = zip(config["digests"], config["points"], strict=True)
    points = {d: configs.validate(kind, json.loads(text)) for d, text in texts}
    first = next(iter(points.values()))
    try:
        data = _read(_DataOf(first.source(), first))
    except Exception as error:
        for digest in points:
            report.end(digest, _in_words(error))
        return
    todo = {d: p for d, p in points.items() if not sweep_results.read_metrics(out, d)}
    if len(todo) > 1 and not torch.cuda.is_available():
        _train_pack(todo, data, out, report, keep=refits > 0)
        todo = {}
    for digest, point in points.items():
        if digest in report.ended:
            continue
        try:
            folder = sweep_results.folder(out, digest)
            if digest in todo:
                _train(point, data, folder, report, prune, metric)
            if refits and num_refits(folder) != refits:
                course = lambda done, _: report.models(done)  # noqa: E731
                run_refits(folder, data, point, refits, course)
            report.end(digest, None)
        except Exception as error:
            report.end(digest, _in_words(error))


def _in_words(error: Exception) -> str:
    """A line for what the user can change, a traceback for all else."""
    if isinstance(error, InputError):
        return str(error)
    return "".join(traceback.format_exception(error))


def _train_pack(
    points: Mapping[str, Experiment],
    bags: Bags,
    out: Path,
    report: _Reports,
    keep: bool,
) -> None:
    """Train configs of a pack at once.

    ``keep``: configs without an error have not ended yet, as more is wanted of them.
    """
    given, digests = [], list(points)
    for digest, point in points.items():
        assert isinstance(point, ExperimentConfig)
        given.append((point, sweep_results.folder(out, digest)))
    point, _ = given[0]
    splits = point.plan(bags)
    for place, error in run_pack(given, bags, splits, report.models):
        if error or not keep:
            report.end(digests[place], error and str(error))


def _train(
    point: Experiment,
    data: Any,
    folder: Path,
    report: _Reports,
    prune: PruningConfig | None,
    metric: str | None,
) -> None:
    """Train one config, and report its models where they may be pruned."""
    total = len(point.plan(data)) if prune and metric else 0
    stages = prune.rungs(total) if prune else []
    rungs = _RungReports(report, metric, stages, total)
    course = lambda done, _: report.models(done)  # noqa: E731
    point.train(data, folder, course, rungs.validated, stages)


class _Reports:
    """Reports of a trial to the driver, which each waits for.

    Attributes:
        ended: the configs that have a result (None) or an error, by digest.
    """

    def __init__(self) -> None:
        self.ended: dict[str, str | None] = {}
        self._models, self._reported = 0, time.monotonic()

    def models(self, done: int) -> None:
        """Report the number of models, every few seconds."""
        self._models = done
        if time.monotonic() - self._reported > _REPORT_EVERY_S:
            self.send({})

    def end(self, digest: str, error: str | None) -> None:
        """Report that a config has its result, or an error."""
        self.ended[digest] = error
        self.send({})

    def send(self, more: Mapping[str, Any]) -> None:
        """Report what is known, and more."""
        tune.report({"models": self._models, "ended": dict(self.ended), **more})
        self._reported = time.monotonic()


class _RungReports:
    """Reports of what the models of a config have on validation, for a decision.

    Where the driver prunes the trial, the report does not return.
    """

    def __init__(
        self, report: _Reports, metric: str | None, stages: Sequence[int], total: int
    ):
        self._report, self._metric = report, metric
        self._stages, self._total = stages, total
        self._values: list[float] = []

    def validated(self, validation: Predictions) -> None:
        """Report the values so far after as many models as a stage has."""
        if not self._stages or self._metric is None:
            return
        self._values.append(score_of(validation, self._metric))
        if len(self._values) in self._stages:
            # Flat, as Tune's scheduler gets its results.
            found = {"validated": list(self._values), "total": self._total}
            self._report.send(found)


@dataclass(frozen=True)
class _DataOf:
    """The data of a config, known by ``Experiment.source``."""

    key: str
    config: Experiment = field(compare=False)


@functools.lru_cache(maxsize=2)
def _read(source: _DataOf) -> Any:
    """Data of a config; the trials of one process share them."""
    return source.config.load()
